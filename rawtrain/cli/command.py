"""From a command line to settings, and from a mistake to an exit code.

Nothing here imports torch, so `--help` and a wrong flag are answered at once.
"""

import contextlib
import dataclasses
import difflib
import json
import sys
import tomllib
import types
import typing
from argparse import SUPPRESS, ArgumentError, HelpFormatter, Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from transformers.hf_argparser import HfArgumentParser, string_to_bool

from rawtrain.cli.allowed import check
from rawtrain.cli.old_names import RENAMED
from rawtrain.config import MlmSettings, NerSettings, TrainingSettings, uses_own_data
from rawtrain.data.files import read_text
from rawtrain.errors import RunError, raise_problems

EXIT_FAILURE, EXIT_MISTAKE = 1, 2
Settings = TypeVar("Settings", bound=TrainingSettings)


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
    settings: Any = settings_class(**given)
    if not uses_own_data(settings):
        settings = settings_class(**settings_class.embedded_recipe | given)
    check(settings)
    return settings


@contextlib.contextmanager
def reported_mistakes() -> Iterator[None]:
    """Turn a user's mistake, raised as ValueError or OSError, into a message and exit code 2.

    Only what reads settings, data and models may stand inside. A ValueError raised elsewhere is a
    bug of ours and keeps its traceback. A RunError is a message and exit code 1 here too.
    """
    with _reported(RunError, EXIT_FAILURE), _reported((ValueError, OSError), EXIT_MISTAKE):
        yield


def run(main: Callable[[Settings], None], settings: Settings) -> None:
    """Call `main(settings)`; a RunError becomes its message and exit code 1."""
    with _reported(RunError, EXIT_FAILURE):
        main(settings)


@contextlib.contextmanager
def _reported(errors, exit_code):
    try:
        yield
    except errors as error:
        lines = (str(error).strip() or repr(error)).split("\n")
        print("\n".join(f"error: {line}" for line in lines if line.strip()), file=sys.stderr)
        sys.exit(exit_code)


NOT_GIVEN = object()
IN_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a table",
    list: "a list",
}


class _Parser(HfArgumentParser):
    """Notes a wrong value and continues, so that all of them are reported at once."""

    def _get_values(self, action, arg_strings):
        try:
            return super()._get_values(action, arg_strings)
        except ArgumentError:
            hint = self.type_hints[action.dest]
            self.problems.append(_wrong_value(f"--{action.dest}", " ".join(arg_strings), hint))
            return NOT_GIVEN

    def error(self, message):
        raise_problems([*self.problems, f"{message.removeprefix('argument ')}; see --help"])


class _Help(HelpFormatter):
    """One spelling of each flag, and its default if it has one."""

    def _format_action_invocation(self, action):
        if not action.option_strings or action.nargs == 0 or action.type is string_to_bool:
            return (action.option_strings or [action.dest])[0]
        values = self._format_args(action, getattr(action.type, "__name__", "value"))
        return f"{action.option_strings[0]} {values}"

    def _get_help_string(self, action):
        if action.default is None or action.default is SUPPRESS or action.default is False:
            return action.help
        return f"{action.help} (default: %(default)s)"


def _from_flags(settings_class, arguments, problems):
    """The settings given on the command line, and no others; mistakes are added to `problems`."""
    parser = _Parser(
        settings_class.groups,
        usage=f"{settings_class.command} [settings.toml | settings.json] [--flag value ...]",
        description=settings_class.__doc__,
        epilog="Flags are written --a_b or --a-b; those shown without a value may be given true or "
        "false. Names and defaults are those of TrainingArguments 5.23, run_ner.py and run_mlm.py, "
        "with these exceptions: an evaluation each epoch if there is validation data; at least "
        "twenty log lines a run; and without any data named, when the run uses text that comes "
        "with Python and torch, "
        + " ".join(f"--{name} {value}" for name, value in settings_class.embedded_recipe.items()),
        formatter_class=partial(_Help, max_help_position=34, width=100),
        allow_abbrev=False,
    )
    parser.problems = problems
    parser.type_hints = typing.get_type_hints(settings_class)
    parser.set_defaults(output_dir=settings_class.output_dir)
    for action in parser._actions:
        if action.type is string_to_bool:  # for a `bool | None` the parser demands a value
            action.nargs, action.const = "?", True
        elif action.option_strings[0].startswith("--no_"):
            action.help = SUPPRESS  # the parser adds --no_fast, which says what --fast false says
    namespace = Namespace(**dict.fromkeys(_names(settings_class), NOT_GIVEN))
    namespace, unknown = parser.parse_known_args(arguments, namespace)
    flags = [argument for argument in unknown if argument[:1] == "-"]
    problems += [_unknown(flag, settings_class) for flag in flags]
    if unknown and not flags:
        problems.append(
            f"unexpected argument {unknown[0]!r}; every value follows its --flag, and a settings "
            f"file (.toml or .json) comes first"
        )
    return {name: value for name, value in vars(namespace).items() if value is not NOT_GIVEN}


def _from_file(settings_class, file, problems):
    """The settings in a TOML or JSON file; mistakes are added to `problems`."""
    text = read_text(file)
    try:
        values = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as mistake:  # both decoders name line and column
        raise ValueError(f"{file}: not readable as {file.suffix[1:].upper()}: {mistake}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: holds a {type(values).__name__}; expected names and values")
    hints = typing.get_type_hints(settings_class)
    if isinstance(values.get("resume_from_checkpoint"), bool):
        values["resume_from_checkpoint"] = str(values["resume_from_checkpoint"]).lower()
    for name, value in values.items():
        if name not in _names(settings_class):
            problems.append(f"{file}: {_unknown(name, settings_class)}")
        elif not _fits(value, hints[name]):
            shown = json.dumps(value, default=str)  # TOML has dates
            problems.append(f"{file}: {_wrong_value(name, shown, hints[name])}")
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


def _wrong_value(name, value, hint):
    parts = [IN_WORDS.get(typing.get_origin(part) or part, part) for part in _alternatives(hint)]
    expected = " or ".join(part for part in parts if isinstance(part, str))
    return f"{name} is {value}; expected {expected}"


def _fits(value, hint):
    kinds = [typing.get_origin(part) or part for part in _alternatives(hint)]
    if type(value) in kinds or (type(value) is int and float in kinds):
        return True
    return isinstance(value, str) and value in _alternatives(hint)


def _alternatives(hint):
    """The types and literal values that a type hint allows."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [part for arg in typing.get_args(hint) for part in _alternatives(arg)]
    return list(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else [hint]


def _json_object(text, problems):
    try:
        value = json.loads(text)
    except ValueError as mistake:
        problems.append(f"--lr_scheduler_kwargs is not JSON: {mistake}")
        return None
    if not isinstance(value, dict):
        problems.append(f"--lr_scheduler_kwargs is {text}; expected a JSON object")
    return value
