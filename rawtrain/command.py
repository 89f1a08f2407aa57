"""From a command line to settings, and from a mistake to an exit code.

Nothing here imports torch, so that `--help` and a wrong flag are answered at once.
"""

import contextlib
import dataclasses
import difflib
import json
import sys
import tomllib
import types
import typing
from argparse import SUPPRESS, HelpFormatter, Namespace
from pathlib import Path

from transformers.hf_argparser import HfArgumentParser

from rawtrain.config import check, uses_own_data

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

# Flags of older commands and of the scripts: what to write instead.
RENAMED = {
    "evaluation_strategy": "use --eval_strategy",
    "warmup_ratio": "use --warmup_steps with a share of the run below 1",
    "num_warmup_steps": "use --warmup_steps",
    "no_cuda": "use --use_cpu",
    "epochs": "use --num_train_epochs",
    "num_epochs": "use --num_train_epochs",
    "max_train_steps": "use --max_steps",
    "lr": "use --learning_rate",
    "batch_size": "use --per_device_train_batch_size",
    "train_batch_size": "use --per_device_train_batch_size",
    "eval_batch_size": "use --per_device_eval_batch_size",
    "per_gpu_train_batch_size": "use --per_device_train_batch_size",
    "per_gpu_eval_batch_size": "use --per_device_eval_batch_size",
    "max_length": "use --max_seq_length",
    "model": "use --model_name_or_path",
    "model_type": "use --config_name with a configuration of that type",
    "test_split": "use --test_file or --dataset_name",
    "checkpointing_steps": "use --save_strategy and --save_steps",
    "activation_checkpointing": "use --gradient_checkpointing",
    "wwm": "use --whole_word_mask",
    "logging_dir": "leave it out: metrics.jsonl in --output_dir holds every logged number",
    "report_to": "leave it out: metrics.jsonl in --output_dir holds every logged number",
    "with_tracking": "leave it out: metrics.jsonl in --output_dir holds every logged number",
    "group_by_length": "leave it out: the order of the rows is Trainer's random one",
    "pad_to_max_length": "leave it out: a batch is padded to its longest row",
    "save_safetensors": "leave it out: models are always saved as safetensors",
    "overwrite_cache": "leave it out: encoded rows are not cached",
    "preprocessing_num_workers": "leave it out: the tokenizer uses all cores",
    "half_precision_backend": "leave it out: --bf16 and --fp16 use torch.autocast",
    "fp16_backend": "leave it out: --bf16 and --fp16 use torch.autocast",
    "fp16_opt_level": "leave it out: --bf16 and --fp16 use torch.autocast",
    "optim": "leave it out: the optimizer is AdamW",
    "cache_dir": "set the environment variable HF_HOME",
    "token": "set HF_TOKEN or run `hf auth login`: a token on a command line is seen by others",
    "hub_token": "set HF_TOKEN or run `hf auth login`: a token on a command line is seen by others",
    "use_auth_token": "set HF_TOKEN or run `hf auth login`",
}


def parse(settings_class, arguments=None):
    """The checked settings of a command line: `[settings.toml|settings.json] [--flag value ...]`.

    Flags override the file, which overrides the recipe of the embedded run, which overrides the
    defaults. Prints the help or every mistake found and exits, with 0 or 2.
    """
    with reported_mistakes():
        return settings_from(settings_class, sys.argv[1:] if arguments is None else arguments)


def settings_from(settings_class, arguments):
    """Like `parse`, with the mistakes raised as one ValueError."""
    given = {}
    if arguments and Path(arguments[0]).suffix in (".toml", ".json"):
        given = _from_file(settings_class, Path(arguments[0]))
        arguments = arguments[1:]
    given |= _from_flags(settings_class, arguments)
    if isinstance(given.get("lr_scheduler_kwargs"), str):
        given["lr_scheduler_kwargs"] = _json_object(given["lr_scheduler_kwargs"])
    settings = settings_class(**given)
    if not uses_own_data(settings):
        settings = settings_class(**settings_class.embedded_recipe | given)
    check(settings)
    return settings


@contextlib.contextmanager
def reported_mistakes():
    """Turn a user's mistake, raised as ValueError or OSError, into a message and exit code 2.

    It surrounds what reads settings, data and models. An error raised anywhere else is ours and
    keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as mistake:
        lines = str(mistake).strip().split("\n")
        print("\n".join(f"error: {line}" for line in lines if line.strip()), file=sys.stderr)
        sys.exit(EXIT_MISTAKE)


def run(main, settings):
    """Call `main(settings)` and exit: 0 done, 1 training broke down, 130 interrupted."""
    from rawtrain.step_record import NonFiniteError  # torch is loaded by now

    try:
        main(settings)
    except NonFiniteError as breakdown:
        print(f"error: {breakdown}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def write_settings(settings, file):
    """Write settings as JSON that `parse` reads again; no setting holds a token."""
    file.write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n", encoding="utf-8")


class _Parser(HfArgumentParser):
    def error(self, message):
        raise ValueError(f"{message}; see --help")


class _Help(HelpFormatter):
    """One spelling per flag, and the default where there is one to tell."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=34, width=100)

    def _format_action_invocation(self, action):
        value = f" {self._format_args(action, self._get_default_metavar_for_optional(action))}"
        if not action.option_strings or action.nargs == 0 or isinstance(action.default, bool):
            value = ""
        return (action.option_strings or [action.dest])[0] + value

    def _get_default_metavar_for_optional(self, action):
        name = getattr(action.type, "__name__", "value")
        return None if action.choices else {"string_to_bool": "true|false"}.get(name, name)

    def _get_help_string(self, action):
        if action.default is None or action.default is SUPPRESS or action.default is False:
            return action.help
        return f"{action.help} (default: %(default)s)"


NOT_GIVEN = object()


def _from_flags(settings_class, arguments):
    """The settings named on the command line, and no others."""
    names = [field.name for field in dataclasses.fields(settings_class)]
    parser = _Parser(
        settings_class.groups,
        usage="python -m %(prog)s [settings.toml | settings.json] [--flag value ...]",
        description=settings_class.__doc__,
        epilog="Flags are written --a_b or --a-b. Names and defaults are TrainingArguments' 5.23, "
        "run_ner.py's and run_mlm.py's, except: evaluation each epoch if there is validation data, "
        "at least twenty log lines a run, and for the run on embedded text a recipe of its own: "
        + " ".join(f"--{name} {value}" for name, value in settings_class.embedded_recipe.items()),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.set_defaults(output_dir=settings_class.output_dir)
    namespace = Namespace(**dict.fromkeys(names, NOT_GIVEN))
    namespace, unknown = parser.parse_known_args(arguments, namespace)
    if unknown:
        raise ValueError(
            "\n".join(_unknown(flag, names) for flag in unknown if flag[:1] == "-")
            or f"unexpected argument {unknown[0]!r}; every value follows its --flag"
        )
    return {name: value for name, value in vars(namespace).items() if value is not NOT_GIVEN}


def _unknown(flag, names):
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    if name in RENAMED:
        return f"--{name} is not a setting here; {RENAMED[name]}"
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean --{nearest[0]}?" if nearest else "see --help"
    return f"--{name} is not a setting; {hint}"


def _from_file(settings_class, file):
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as mistake:  # both decoders name line and column
        raise ValueError(f"{file}: not readable as {file.suffix[1:].upper()}: {mistake}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: holds a {type(values).__name__}; expected names and values")
    allowed = typing.get_type_hints(settings_class)
    names = [field.name for field in dataclasses.fields(settings_class)]
    problems = [_unknown(name, names) for name in values if name not in names]
    problems += [
        f"{name} is {json.dumps(value)}; expected {_expected(allowed[name])}"
        for name, value in values.items()
        if name in names and not _fits(value, allowed[name])
    ]
    if problems:
        raise ValueError("\n".join(f"{file}: {problem}" for problem in problems))
    return values


def _alternatives(hint):
    """The types and literal values that a type hint admits."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [part for arg in typing.get_args(hint) for part in _alternatives(arg)]
    return list(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else [hint]


def _fits(value, hint):
    for part in _alternatives(hint):
        if isinstance(part, str):
            if value == part:
                return True
        elif type(value) is part or (part is float and type(value) is int):
            return True
    return False


def _expected(hint):
    parts = [part if isinstance(part, str) else part.__name__ for part in _alternatives(hint)]
    return " or ".join(part for part in parts if part != "NoneType")


def _json_object(text):
    try:
        value = json.loads(text)
    except ValueError as mistake:
        raise ValueError(f"--lr_scheduler_kwargs is not JSON: {mistake}") from None
    if not isinstance(value, dict):
        raise ValueError(f"--lr_scheduler_kwargs is {text}; expected a JSON object")
    return value
