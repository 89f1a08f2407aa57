"""From a command line to settings, and from a mistake to an exit code.

Nothing here imports torch or transformers, so `--help` and a wrong flag are answered at once.
"""

import contextlib
import dataclasses
import difflib
import io
import json
import sys
import types
import typing
from argparse import SUPPRESS, ArgumentError, ArgumentParser, HelpFormatter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rawtrain.cli.allowed import check
from rawtrain.cli.old_names import RENAMED
from rawtrain.config import MlmSettings, NerSettings, TrainingSettings, uses_own_data
from rawtrain.data.files import read_object
from rawtrain.errors import RunError, raise_problems, visible

EXIT_FAILURE, EXIT_MISTAKE = 1, 2
Settings = TypeVar("Settings", bound=TrainingSettings)
Given = TypeVar("Given")


def parse(settings_class: type[Settings], arguments: Sequence[str] | None = None) -> Settings:
    """The checked settings of a command line: `[settings.toml|settings.json] [--flag value ...]`.

    Flags override the file, which overrides the recipe of the embedded run, which overrides the
    defaults. Prints the help, or every mistake found, and exits with 0 or 2.
    """
    with reported_mistakes():
        return settings_from(settings_class, sys.argv[1:] if arguments is None else arguments)


def settings_from(settings_class: type[Settings], arguments: Sequence[str]) -> Settings:
    """Like `parse`, but mistakes are raised as one ValueError."""
    problems: list[str] = []
    given: dict[str, Any] = {}
    if arguments and arguments[0][:1] != "-" and Path(arguments[0]).suffix in (".toml", ".json"):
        given = _from_file(settings_class, Path(arguments[0]), problems)
        arguments = arguments[1:]
    given |= _from_flags(settings_class, arguments, problems)
    if isinstance(given.get("lr_scheduler_kwargs"), str):
        given["lr_scheduler_kwargs"] = _json_object(given["lr_scheduler_kwargs"], problems)
    raise_problems(problems)
    settings = settings_class(**given)
    if not uses_own_data(settings):
        settings = settings_class(**settings_class.embedded_recipe | given)
    check(settings)
    return settings


def parser_of_use(command: str, description: str, epilog: str) -> ArgumentParser:
    """The parser of a command that uses a finished model, with the flags that all of them have."""
    prog = f"python -m rawtrain.{command}"
    parser = ArgumentParser(prog, description=description, epilog=epilog, allow_abbrev=False)
    parser.add_argument("model_dir", help="folder of the model, or its name on the hub")
    parser.add_argument("--use_cpu", "--use-cpu", action="store_true", help="stay on the CPU")
    trust = "run code that the model brings; only if you trust its authors"
    parser.add_argument(
        "--trust_remote_code", "--trust-remote-code", action="store_true", help=trust
    )
    parser.set_defaults(log_level="passive", disable_tqdm=True)  # for configure_logging
    return parser


@contextlib.contextmanager
def reported_mistakes() -> Iterator[None]:
    """Turn a user's mistake, raised as ValueError or OSError, into a message and exit code 2.

    Only what reads settings, data and models may stand inside. A ValueError raised elsewhere is a
    bug of ours and keeps its traceback. A RunError is a message and exit code 1 here too.
    """
    with _reported(RunError, EXIT_FAILURE), _reported((ValueError, OSError), EXIT_MISTAKE):
        yield


def run(main: Callable[[Given], None], given: Given) -> None:
    """Call `main(given)`; a RunError becomes its message and exit code 1."""
    never_stop_at_output()
    with _reported(RunError, EXIT_FAILURE):
        main(given)


def never_stop_at_output() -> None:
    """Print escapes for what the terminal cannot show, and nothing after a `| head` has ended.

    Without it a run of hours could end at the print that tells of its success.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None if it was closed from the start
        if stream and stream is getattr(sys, f"__{name}__"):  # not what a notebook put there
            binary = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
            options = {"errors": "backslashreplace", "line_buffering": stream.line_buffering}
            setattr(sys, name, io.TextIOWrapper(binary, stream.encoding, **options))


class _Pipe(io.FileIO):
    """A file that whoever reads it may close."""

    def write(self, content):
        try:
            return super().write(content)
        except BrokenPipeError:
            return len(content)


@contextlib.contextmanager
def _reported(errors, exit_code):
    try:
        yield
    except errors as error:
        lines = visible(str(error).strip() or repr(error)).split("\n")
        print("\n".join(f"error: {line}" for line in lines if line.strip()), file=sys.stderr)
        sys.exit(exit_code)


TRUE_OR_FALSE = dict.fromkeys(("true", "t", "yes", "y", "1"), True)
TRUE_OR_FALSE |= dict.fromkeys(("false", "f", "no", "n", "0"), False)
IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
IN_WORDS |= {dict: "a table", list: "a list"}


class _Help(HelpFormatter):
    """One spelling of each flag, and no value where none is needed."""

    def _format_action_invocation(self, action):
        values = "" if action.nargs in (0, "?") else f" {self._format_args(action, action.metavar)}"
        return action.option_strings[0] + values


def _from_flags(settings_class, arguments, problems):
    """The settings given on the command line, and no others; mistakes are added to `problems`."""
    parser = _parser(settings_class, problems)
    try:
        namespace, unknown = parser.parse_known_args(arguments)
    except ArgumentError as mistake:  # such as a flag without its value
        problems.append(f"{str(mistake).removeprefix('argument ')}; see --help")
        return {}
    flags = [argument for argument in unknown if argument[:1] == "-"]
    problems += [_unknown(flag, settings_class) for flag in flags]
    if unknown and not flags:
        expected = "every value follows its --flag, and a settings file (.toml, .json) comes first"
        problems.append(f"unexpected argument {unknown[0]!r}; {expected}")
    return vars(namespace)


def _parser(settings_class, problems):
    """A parser with a flag for each setting; values that it cannot read are added to `problems`."""
    parser = ArgumentParser(
        usage=f"{settings_class.command} [settings.toml | settings.json] [--flag value ...]",
        description=settings_class.__doc__,
        epilog="Flags are written --a_b or --a-b; those shown without a value may be given true or "
        "false. Names and defaults are those of TrainingArguments 5.23, run_ner.py and run_mlm.py, "
        "but a run evaluates each epoch, logs at least twenty lines and, if no data is named, has "
        + " ".join(f"--{name} {value}" for name, value in settings_class.embedded_recipe.items()),
        formatter_class=partial(_Help, max_help_position=34, width=100),
        argument_default=SUPPRESS,
        allow_abbrev=False,
        exit_on_error=False,
    )
    hints = typing.get_type_hints(settings_class)
    for group in settings_class.groups:
        add_argument = parser.add_argument_group(group.title).add_argument
        for field in dataclasses.fields(group):
            name, kinds = field.name, _kinds(hints[field.name])
            words = [kind for kind in kinds if isinstance(kind, str)]
            metavar = f"{{{','.join(words)}}}" if words else kinds[0].__name__
            default = getattr(settings_class, name)
            shown = "" if default is None or default is False else f" (default: {default})"
            add_argument(
                *dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")),
                dest=name,
                type=partial(_read, f"--{name}", kinds, problems),
                nargs="?" if bool in kinds else "+" if list in kinds else None,
                const=True if bool in kinds else None,
                metavar=field.metadata.get("metavar", metavar),
                help=field.metadata["help"] + shown,
            )
    return parser


def _read(flag, kinds, problems, word):
    """The value of a flag: a word on the command line as one of the `kinds`."""
    for read in (lambda word: TRUE_OR_FALSE[word.lower()], float, int, str):
        with contextlib.suppress(KeyError, ValueError):
            if _fits(value := read(word), kinds):
                return value
    problems.append(_wrong_value(flag, word, kinds))
    return None


def _from_file(settings_class, file, problems):
    """The settings in a TOML or JSON file; mistakes are added to `problems`."""
    values = read_object(file)
    hints = typing.get_type_hints(settings_class)
    if isinstance(values.get("resume_from_checkpoint"), bool):
        values["resume_from_checkpoint"] = str(values["resume_from_checkpoint"]).lower()
    for name, value in values.items():
        if name not in _names(settings_class):
            problems.append(f"{file}: {_unknown(name, settings_class)}")
        elif not _fits(value, kinds := _kinds(hints[name])):
            shown = json.dumps(value, default=str)  # TOML has dates
            problems.append(f"{file}: {_wrong_value(name, shown, kinds)}")
    return values


def _names(settings_class):
    return [field.name for field in dataclasses.fields(settings_class)]


def _unknown(typed, settings_class):
    """The answer to a name that is no setting. It never shows the value, which may be a token."""
    typed = typed.partition("=")[0]
    dashes = "--" if typed[:1] == "-" else ""
    name = typed.lstrip("-").replace("-", "_")
    if name in RENAMED:
        return f"{typed} is not a setting here; {RENAMED[name]}"
    names = _names(settings_class)
    for other in (NerSettings, MlmSettings):
        if name in _names(other) and name not in names:
            return f"{typed} is a setting of {other.command} alone; leave it out"
    nearest = [known for known in names if known.startswith(name)]  # an abbreviation
    nearest += difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {dashes}{nearest[0]}?" if nearest else "see --help"
    return f"{typed} is not a setting; {hint}"


def _wrong_value(name, value, kinds):
    expected = [IN_WORDS.get(kind, kind) for kind in kinds if kind is not types.NoneType]
    return f"{name} is {value}; expected {' or '.join(expected)}"


def _fits(value, kinds):
    is_number = type(value) is int and float in kinds
    return type(value) in kinds or is_number or (isinstance(value, str) and value in kinds)


def _kinds(hint):
    """The types and literal values that a type hint allows."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(hint) for kind in _kinds(part)]
    return list(typing.get_args(hint)) if origin is typing.Literal else [origin or hint]


def _json_object(text, problems):
    with contextlib.suppress(ValueError):
        if isinstance(value := json.loads(text), dict):
            return value
    problems.append(f"--lr_scheduler_kwargs is {text}; expected a JSON object")
    return None
