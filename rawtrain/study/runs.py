"""What transfer.py, curve.py and seeds.py share: runs of rawtrain.ner, none of which is done twice.

A study's directory has a run of rawtrain.ner under runs/ for each of its numbers, and under scores/
what each run follows from and, once it is done, its scores. Where there are scores nothing is run
again, and a run that was interrupted resumes as every run does. What the runs print is in runs.txt.
"""

import argparse
import contextlib
import json
import logging
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rawtrain.cli import allowed
from rawtrain.cli.command import reported_mistakes, settings_from
from rawtrain.config import NerSettings
from rawtrain.data.files import sha256_of
from rawtrain.results.files import read_metrics
from rawtrain.results.terminal import aligned
from rawtrain.run.durable import write_json, write_text
from rawtrain.run.identity import differences, settings_that_count
from rawtrain.run.log import configure_logging
from rawtrain.study.corpora import FILE_NAMES, Corpus

logger = logging.getLogger(__name__)

# The order of the rows is keyed by seed + epoch, as in Trainer: epoch 0 of seed 43 has the order of
# epoch 1 of seed 42. Seeds that are further apart than a run has epochs share no order.
SEEDS_APART = 1000
WORK = {"train": "train", "eval": "validation", "predict": "test"}  # by split
DECIDED_HERE = (  # a flag of these after `--` would make other runs than those of the study
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
    *("do_train", "do_eval", "do_predict", "push_to_hub"),
)
COUNTS_HERE = (  # what changes a test score, besides what changes the training
    *("model_name_or_path", "config_name", "tokenizer_name", "model_revision"),
    *("token_column", "tag_column", "encoding", "max_predict_samples"),
)


@dataclass(frozen=True)
class Scores:
    """A score, such as F1, of the same training with several seeds."""

    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float | None:
        """The sample standard deviation: n - 1 in the divisor. None for a single seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")

    @property
    def note(self) -> list[str]:
        """What a cell shows, in lines for below the table."""
        first, *others = self.by_seed
        if not others:
            return [f"One seed, {first}; --seeds 5 shows how far a seed moves F1."]
        return [
            f"Mean ± sample standard deviation (n - 1) over {1 + len(others)} seeds: "
            f"{', '.join(map(str, self.by_seed))}.",
            "They are far apart because seed + epoch decides the order of the sentences.",
        ]


def scores_of(metrics: Mapping[tuple[Any, Any], dict], name: str) -> dict[Any, Scores]:
    """The score of this name for each kind of run, from the metrics by (kind of run, seed)."""
    by_seed: dict[Any, dict] = {}
    for (kind, seed), of_run in metrics.items():
        if name in of_run:
            by_seed.setdefault(kind, {})[seed] = of_run[name]
    return {kind: Scores(values) for kind, values in by_seed.items()}


@dataclass(frozen=True)
class StudyRun:
    """A run of rawtrain.ner, and all that its scores follow from."""

    name: str
    settings: NerSettings
    made_from: dict[str, Any]  # in the form of an identity, see run/identity.py


class Study:
    """The command of a study: its options, and the directory with its runs."""

    def __init__(self, parser: argparse.ArgumentParser, arguments: list[str], num_seeds=1) -> None:
        """Read the options, and the flags for rawtrain.ner, which stand after `--`."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        add = parser.add_argument
        add("--output_dir", required=True, type=Path, metavar="DIR", help="where all is written")
        help_text = f"of each training: --seed, seed + {SEEDS_APART}, seed + {2 * SEEDS_APART} ..."
        help_text += ", so that no two share an order of the rows (default: %(default)s)"
        add("--seeds", type=int, default=num_seeds, metavar="N", help=help_text)
        usage = parser.format_usage().removeprefix("usage: ").strip()
        parser.usage = f"{usage} -- [flags of rawtrain.ner]"
        at = arguments.index("--") if "--" in arguments else len(arguments)
        self.options, unknown = parser.parse_known_args(arguments[:at])
        if unknown:
            parser.error(f"{unknown[0]} is no option here; flags of rawtrain.ner stand after --")
        if self.options.seeds < 1:
            parser.error(f"--seeds is {self.options.seeds}; expected a number from 1")
        self.flags = arguments[at + 1 :]
        self.name, self.folder = parser.prog.rpartition(".")[2], self.options.output_dir

    def settings(self, **fixed) -> NerSettings:
        """The checked settings of the flags after `--`, with those that the study decides.

        Raises ValueError for a flag of what it decides.
        """
        names = [flag.partition("=")[0] for flag in self.flags if flag.startswith("--")]
        taken = {name.removeprefix("--").replace("-", "_") for name in names}
        if taken := taken & {*DECIDED_HERE, *fixed}:
            raise ValueError(f"--{min(taken)} after `--`: the study decides it; leave it out")
        fixed["output_dir"] = self.folder / "runs" / "any"  # each run has its own
        given = [f"--{name}={value}" for name, value in fixed.items() if value is not None]
        settings = settings_from(NerSettings, [*self.flags, *given])
        configure_logging(settings)
        return settings

    def seeds(self, settings: NerSettings) -> list[int]:
        """The seeds. No two share an order of the rows in fewer than 1,000 epochs."""
        return [settings.seed + SEEDS_APART * place for place in range(self.options.seeds)]

    def training(self, name: str, settings: NerSettings, corpus: Corpus) -> StudyRun:
        """The run that trains on `corpus` and, if that has test data, predicts these."""
        does = {f"do_{do}": split in corpus.files for do, split in WORK.items()}
        return self._run(name, settings, corpus.hashes, **corpus.settings, **does)

    def job(self, name: str, settings: NerSettings) -> StudyRun:
        """The run that does a whole job. Its files are hashed; data of the hub are their name."""
        files = {split: getattr(settings, f"{split}_file") for split in FILE_NAMES}
        data: dict = {split: sha256_of(Path(file)) for split, file in files.items() if file}
        data["dataset"] = [settings.dataset_name, settings.dataset_config_name]
        return self._run(name, settings, data)

    def prediction(self, name: str, settings, corpus: Corpus, model: str, hashes: dict) -> StudyRun:
        """The run that has a trained model predict the test data of `corpus`.

        settings: those of the training. model: its output directory. hashes: of its data.
        """
        return self._run(
            name,
            settings,
            hashes | {"test": corpus.hashes["test"]},
            **{"model_name_or_path": model, "model_revision": "main"},
            **dict.fromkeys(("config_name", "tokenizer_name", "train_file", "validation_file")),
            test_file=str(corpus.files["test"]),
            **{"do_train": False, "do_eval": False, "do_predict": True},
            **{"eval_strategy": "no", "save_strategy": "no"},
            **{"load_best_model_at_end": False, "early_stopping_patience": None},
            # each would repeat what was said of the same test data
            log_level="error" if settings.log_level == "passive" else settings.log_level,
        )

    def do(self, runs: dict[Any, StudyRun]) -> dict[Any, dict]:
        """Do the runs that have no scores. The metrics of all, by their keys.

        A run that cannot do what it is to do ends the command before any run begins.
        """
        with reported_mistakes():
            left = [run for run in runs.values() if self._is_left(run)]
            _check(left)
        package_logger = logging.getLogger("rawtrain")
        level = package_logger.level
        for number, run in enumerate(left, start=1):
            logger.info(f"{number}/{len(left)} {run.name}")
            start_time = time.monotonic()
            f1 = self._do(run).get("predict_f1")
            seconds = time.monotonic() - start_time
            package_logger.setLevel(level)  # a run sets its own
            result = "trained" if f1 is None else f"F1 {f1:.3f}"
            logger.info(f"{number}/{len(left)} {run.name}: {result}, {seconds:.0f} s")
        return {key: self._stored(run)["metrics"] for key, run in runs.items()}

    def show(self, found: Any) -> None:
        """Write what was found, its fields as JSON and its table as Markdown; print the table."""
        about = {"std": "sample standard deviation over seeds, n - 1"}
        write_json(self.folder / f"{self.name}.json", _plain(vars(found) | about))
        text = "\n".join(found.table())
        write_text(self.folder / f"{self.name}.md", text + "\n")
        print(f"{text}\n\ntable and runs: {self.folder}/")

    def _is_left(self, run: StudyRun) -> bool:
        stored = self._stored(run)
        if changes := stored and differences(stored["made_from"], run.made_from):
            raise ValueError(
                f"{self._scores_file(run)} comes from another study; what has changed since then:\n"
                + "".join(f"  {change}\n" for change in changes)
                + "repeat the command with which it began, or choose another --output_dir"
            )
        return not stored or stored["metrics"] is None

    def _do(self, run: StudyRun) -> dict:
        from rawtrain import ner  # torch takes seconds, and a wrong flag is answered before

        self._scores_file(run).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._scores_file(run), {"made_from": run.made_from, "metrics": None})
        with (self.folder / "runs.txt").open("a", encoding="utf-8") as said:
            said.write(f"\n===== {run.name}\n")
            with contextlib.redirect_stdout(said):
                ner.main(run.settings)
        metrics = read_metrics(Path(run.settings.output_dir))
        write_json(self._scores_file(run), {"made_from": run.made_from, "metrics": metrics})
        return metrics

    def _stored(self, run: StudyRun) -> dict:
        file = self._scores_file(run)
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def _scores_file(self, run: StudyRun) -> Path:
        return self.folder / "scores" / f"{run.name}.json"

    def _run(self, name: str, settings: NerSettings, data: dict, **changes: Any) -> StudyRun:
        """A run that follows from `settings` and `data`; the changes say where and what of it."""
        counts_here = {setting: getattr(settings, setting) for setting in COUNTS_HERE}
        made_from = {
            "settings": settings_that_count(settings) | counts_here,
            "data": data,
            **{package: version(package) for package in ("torch", "transformers")},
        }
        changes["output_dir"] = str(self.folder / "runs" / name)
        return StudyRun(name, replace(settings, **changes), made_from)


def _check(runs: list[StudyRun]) -> None:
    for run in runs:
        from rawtrain.job import decide_work  # torch takes seconds: not for a finished study

        allowed.check(run.settings)
        if splits := [split for split in FILE_NAMES if getattr(run.settings, f"{split}_file")]:
            decide_work(run.settings, splits)


def _plain(value: Any) -> Any:
    if isinstance(value, Scores):
        value = {"mean": value.mean, "std": value.std, "by_seed": value.by_seed}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return value


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table that is also read on a terminal; the cells are Markdown.

    >>> print("\\n".join(markdown_table(["on", "F1"], [["de", "0.612"], ["all", "**0.7**"]])))
    | on  |      F1 |
    |:----|--------:|
    | de  |   0.612 |
    | all | **0.7** |
    """
    cells = aligned(header, rows)
    first, *later = ("-" * len(title) for title in cells[0])
    titles, *lines = (f"| {' | '.join(row)} |" for row in cells)
    return [titles, f"|:-{first}|" + "".join(f"-{dashes}:|" for dashes in later), *lines]
