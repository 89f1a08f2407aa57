"""What transfer.py, curve.py and seeds.py share: runs of rawtrain.ner, none of which is done twice.

A study's directory has a run of rawtrain.ner under runs/ for each of its numbers, and under scores/
what each run follows from and, once it is done, its scores. Where there are scores nothing is run
again, and a run that was interrupted resumes as every run does. What the runs print is in runs.txt.
"""

import argparse
import contextlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rawtrain.cli import allowed
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.data.files import sha256_of
from rawtrain.results.files import read_metrics
from rawtrain.run.durable import write_json
from rawtrain.run.identity import differences, settings_that_count
from rawtrain.run.log import configure_logging
from rawtrain.study.corpora import FILE_NAMES, Corpus

logger = logging.getLogger(__name__)

# The order of the rows is keyed by seed + epoch, as in Trainer: epoch 0 of seed 43 has the order of
# epoch 1 of seed 42. Seeds that are further apart than a run has epochs share no order.
SEEDS_APART = 1000
DECIDED_HERE = (  # a flag of these after `--` would make other runs than those of the study
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
    *("do_train", "do_eval", "do_predict", "push_to_hub"),
)
COUNTS_HERE = (  # what moves a score of the test data beside that which moves the training
    *("model_name_or_path", "config_name", "tokenizer_name", "model_revision"),
    *("token_column", "tag_column", "max_predict_samples"),
)


@dataclass(frozen=True)
class Run:
    """A run of rawtrain.ner, and all that its scores follow from."""

    name: str
    settings: NerSettings
    made_from: dict[str, Any]  # in the form of an identity, see run/identity.py


def parse_study(
    parser: argparse.ArgumentParser, arguments: list[str], num_seeds: int = 1
) -> tuple[argparse.Namespace, list[str]]:
    """The options of a study's command, and the flags for rawtrain.ner, which stand after `--`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--output_dir", required=True, type=Path, metavar="DIR", help="where all is written")
    help_text = f"of each training: --seed, seed + {SEEDS_APART}, seed + {2 * SEEDS_APART} ..., "
    help_text += "so that no two share an order of the rows (default: %(default)s)"
    add("--seeds", type=int, default=num_seeds, metavar="N", help=help_text)
    usage = parser.format_usage().removeprefix("usage: ").strip()
    parser.usage = f"{usage} -- [flags of rawtrain.ner]"
    at = arguments.index("--") if "--" in arguments else len(arguments)
    options, unknown = parser.parse_known_args(arguments[:at])
    if unknown:
        parser.error(f"{unknown[0]} is no option here; flags of rawtrain.ner stand after --")
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; expected a number from 1")
    return options, arguments[at + 1 :]


def seeds_from(first: int, number: int) -> list[int]:
    """The seeds of a study. No two share an order of the rows in fewer than 1,000 epochs."""
    return [first + SEEDS_APART * place for place in range(number)]


def study_settings(flags: list[str], folder: Path, **fixed) -> NerSettings:
    """The checked settings of the flags after `--`, with those that the study itself decides.

    Raises ValueError for a flag of what it decides.
    """
    names = [flag.partition("=")[0] for flag in flags if flag.startswith("--")]
    taken = {name.removeprefix("--").replace("-", "_") for name in names}
    if taken := taken & {*DECIDED_HERE, *fixed}:
        raise ValueError(f"--{min(taken)} after `--`: the study decides it; leave it out")
    fixed["output_dir"] = folder / "runs" / "any"  # each run has its own
    given = [f"--{name}={value}" for name, value in fixed.items() if value is not None]
    settings = settings_from(NerSettings, [*flags, *given])
    configure_logging(settings)
    return settings


def training_run(name: str, folder: Path, settings: NerSettings, corpus: Corpus) -> Run:
    """The run that trains on `corpus` and, if that has test data, predicts these."""
    settings = replace(
        settings,
        output_dir=str(folder / "runs" / name),
        do_train=True,
        do_eval="validation" in corpus.files,
        do_predict="test" in corpus.files,
        **corpus.settings,
    )
    return Run(name, settings, _made_from(settings, corpus.hashes))


def job_run(name: str, folder: Path, settings: NerSettings) -> Run:
    """The run that does a whole job. Its files are hashed; a data set of the hub is its name."""
    settings = replace(settings, output_dir=str(folder / "runs" / name))
    files = {split: getattr(settings, f"{split}_file") for split in FILE_NAMES}
    data = {split: sha256_of(Path(file)) for split, file in files.items() if file}
    dataset = [settings.dataset_name, settings.dataset_config_name]
    return Run(name, settings, _made_from(settings, {**data, "dataset": dataset}))


def prediction_run(
    name: str, folder: Path, settings: NerSettings, corpus: Corpus, model: str, model_hashes: dict
) -> Run:
    """The run that has a trained model predict the test data of `corpus`.

    settings: those that it was trained with, and how the corpus is read. model: the output
    directory of the training. model_hashes: of what the model was trained on.
    """
    data = model_hashes | {"test": corpus.hashes["test"]}
    prediction: dict[str, Any] = {
        **{"model_name_or_path": model, "model_revision": "main"},
        **dict.fromkeys(("config_name", "tokenizer_name", "train_file", "validation_file")),
        "test_file": str(corpus.files["test"]),
        "output_dir": str(folder / "runs" / name),
        **{"do_train": False, "do_eval": False, "do_predict": True},
        **{"eval_strategy": "no", "save_strategy": "no"},
        **{"load_best_model_at_end": False, "early_stopping_patience": None},
    }
    if settings.log_level == "passive":  # of the same test data each would say the same
        prediction["log_level"] = "error"
    return Run(name, replace(settings, **prediction), _made_from(settings, data))


def unfinished(runs: Iterable[Run], folder: Path) -> list[Run]:
    """Those without scores. Raises ValueError if those there follow from something else."""
    left = []
    for run in runs:
        stored = _stored(run, folder)
        if stored and (changes := differences(stored["made_from"], run.made_from)):
            lines = "\n".join(f"  {change}" for change in changes)
            raise ValueError(
                f"{_scores_file(run, folder)} comes from another study; since then there changed\n"
                f"{lines}\nstart with what it was begun with, or choose another --output_dir"
            )
        if not stored or stored["metrics"] is None:
            left.append(run)
    return left


def check_runs(runs: list[Run]) -> None:
    """Raise ValueError, before any begins, if one of them cannot do what it is to do."""
    from rawtrain.job import decide_work  # torch takes seconds, and a wrong flag is answered before

    for run in runs:
        allowed.check(run.settings)
        if splits := [split for split in FILE_NAMES if getattr(run.settings, f"{split}_file")]:
            decide_work(run.settings, splits)


def do_runs(runs: Mapping[Any, Run], left: list[Run], folder: Path) -> dict[Any, dict]:
    """Do those that are left, in their order. The metrics of all, as in all_results.json."""
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    package_logger = logging.getLogger("rawtrain")
    level = package_logger.level
    for number, run in enumerate(left, start=1):
        logger.info(f"{number}/{len(left)} {run.name}")
        start_time = time.monotonic()
        f1 = _do(run, folder).get("predict_f1")
        seconds = time.monotonic() - start_time
        package_logger.setLevel(level)  # a run sets its own
        result = "trained" if f1 is None else f"F1 {f1:.3f}"
        logger.info(f"{number}/{len(left)} {run.name}: {result}, {seconds:.0f} s")
    return {key: _stored(run, folder)["metrics"] for key, run in runs.items()}


def _made_from(settings, data):
    counts_here = {setting: getattr(settings, setting) for setting in COUNTS_HERE}
    versions = {package: version(package) for package in ("torch", "transformers")}
    return {"settings": settings_that_count(settings) | counts_here, "data": data, **versions}


def _do(run, folder):
    from rawtrain import ner  # torch takes seconds, and a wrong flag is answered before

    file = _scores_file(run, folder)
    write_json(file, {"made_from": run.made_from, "metrics": None})
    with (folder / "runs.txt").open("a", encoding="utf-8") as said:
        said.write(f"\n===== {run.name}\n")
        with contextlib.redirect_stdout(said):
            ner.main(run.settings)
    metrics = read_metrics(Path(run.settings.output_dir))
    write_json(file, {"made_from": run.made_from, "metrics": metrics})
    return metrics


def _stored(run, folder):
    file = _scores_file(run, folder)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _scores_file(run, folder):
    return folder / "scores" / f"{run.name}.json"
