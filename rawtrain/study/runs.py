"""What transfer.py, curve.py and seeds.py share: corpora in folders, and runs of rawtrain.ner.

A study's directory has a run of rawtrain.ner under runs/ for each of its numbers, and its scores
under scores/. The scores are written last: where they are, nothing is run again, and where a run
was interrupted, it goes on as every run does. What the runs print is in runs.txt.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from rawtrain.cli import allowed
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.run.durable import write_json
from rawtrain.run.identity import differences, settings_that_count

logger = logging.getLogger(__name__)

FILE_NAMES = {
    "train": ("train.conll",),
    "validation": ("validation.conll", "dev.conll", "val.conll"),
    "test": ("test.conll",),
}
DECIDED_HERE = (  # a flag of these after `--` would make other runs than those of the study
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
    *("do_train", "do_eval", "do_predict", "push_to_hub"),
)
NAMES_OF_DATA = (
    *("train_file", "validation_file", "test_file", "dataset_name", "dataset_config_name"),
)
COUNTS_HERE = (  # what moves a score of the test data beside that which moves the training
    *("model_name_or_path", "config_name", "tokenizer_name", "model_revision"),
    *("token_column", "tag_column", "max_predict_samples"),
)


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus, by split."""

    name: str
    files: dict[str, Path]  # of "train", "validation" and "test" those that there are
    hashes: dict[str, str]  # what tells the data of each from other data


@dataclass(frozen=True)
class Run:
    """A run of rawtrain.ner, and all that its scores follow from."""

    name: str
    settings: NerSettings
    made_from: dict  # in the form of an identity, see run/identity.py


def parse_study(parser, arguments, num_seeds=1):
    """The options of a study's command, and the flags for rawtrain.ner, which stand after `--`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--output_dir", required=True, type=Path, metavar="DIR", help="where all is written")
    help_text = "of each training: --seed, seed + 1 ... (default: %(default)s)"
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


def find_corpus(name: str, folder: str | Path) -> Corpus:
    """The corpus in a folder. ValueError if training or test data are missing."""
    files = {}
    for split, names in FILE_NAMES.items():
        found = [file for file in (Path(folder) / n for n in names) if file.is_file()]
        if len(found) > 1:
            raise ValueError(f"{folder}: both {found[0].name} and {found[1].name}; keep one")
        if not found and split != "validation":
            raise ValueError(
                f"{folder}: no {names[0]} there; expected a folder with train.conll, test.conll "
                f"and, if there is any, {' or '.join(FILE_NAMES['validation'])}"
            )
        if found:
            files[split] = found[0]
    return Corpus(name, files, {split: sha256(file) for split, file in files.items()})


def files_of(corpus: Corpus) -> dict[str, str | None]:
    """The settings that name its files; None for those that it does not have."""
    names = {split: str(file) for split, file in corpus.files.items()}
    return {f"{split}_file": names.get(split) for split in FILE_NAMES}


def study_settings(flags, corpus: Corpus, folder, decided_here=()) -> NerSettings:
    """The settings of a run on `corpus`, checked, with the flags that a user gave after `--`.

    Raises ValueError for a flag of what the study itself decides.
    """
    check_flags(flags, {*DECIDED_HERE, *NAMES_OF_DATA, *decided_here})
    files = files_of(corpus) | {"output_dir": folder / "runs" / corpus.name}
    given = [f"--{name}={value}" for name, value in files.items() if value]
    return settings_from(NerSettings, [*flags, *given])


def job_settings(flags, folder) -> NerSettings:
    """The settings of a whole job, checked: data and all come from the flags after `--`."""
    check_flags(flags, DECIDED_HERE)
    settings = settings_from(NerSettings, [*flags, f"--output_dir={folder / 'runs' / 'seed'}"])
    return replace(settings, return_entity_level_metrics=True)


def check_flags(flags, decided_here) -> None:
    """Raise ValueError if one of them is decided by the study."""
    names = [flag.partition("=")[0] for flag in flags if flag.startswith("--")]
    taken = {name.removeprefix("--").replace("-", "_") for name in names} & set(decided_here)
    if taken:
        raise ValueError(f"--{min(taken)} after `--`: the study decides it; leave it out")


def training_run(name, folder, settings, corpus) -> Run:
    """The run that trains on `corpus` and, if that has test data, predicts these."""
    settings = replace(
        settings,
        output_dir=str(folder / "runs" / name),
        do_train=True,
        do_eval="validation" in corpus.files,
        do_predict="test" in corpus.files,
        **files_of(corpus),
    )
    return Run(name, settings, _made_from(settings, corpus.hashes))


def job_run(name, folder, settings) -> Run:
    """The run that does a whole job. Its files are hashed; a data set of the hub is its name."""
    settings = replace(settings, output_dir=str(folder / "runs" / name))
    files = {split: getattr(settings, f"{split}_file") for split in FILE_NAMES}
    hashes = {split: sha256(Path(file)) for split, file in files.items() if file}
    hashes |= {"dataset": [settings.dataset_name, settings.dataset_config_name]}
    return Run(name, settings, _made_from(settings, hashes))


def prediction_run(name, folder, trained: Run, settings, corpus) -> Run:
    """The run that has the model of `trained` predict the test data of `corpus`.

    settings: those of a run on `corpus`, for how its files are read.
    """
    settings = replace(
        settings,
        model_name_or_path=trained.settings.output_dir,
        **dict.fromkeys(["config_name", "tokenizer_name", "train_file", "validation_file"]),
        model_revision="main",
        test_file=str(corpus.files["test"]),
        output_dir=str(folder / "runs" / name),
        **{"do_train": False, "do_eval": False, "do_predict": True},
        eval_strategy="no",  # and with it all that needs evaluations
        load_best_model_at_end=False,
        save_strategy="no",
        early_stopping_patience=None,
        # of the same test data each would say the same
        log_level="error" if settings.log_level == "passive" else settings.log_level,
    )
    data = trained.made_from["data"] | {"test": corpus.hashes["test"]}
    return Run(name, settings, trained.made_from | {"data": data})


def unfinished(runs, folder) -> list[Run]:
    """Those without scores, each once. ValueError if scores there are those of another run."""
    left = {}
    for run in runs:
        stored = _stored(run, folder)
        if stored is None:
            left[run.name] = run
        elif changes := differences(stored["made_from"], run.made_from):
            lines = "\n".join(f"  {change}" for change in changes)
            raise ValueError(
                f"{_scores_file(run, folder)} comes from another study; since then there changed\n"
                f"{lines}\nstart with what it was begun with, or choose another --output_dir"
            )
    return list(left.values())


def check_work(runs) -> None:
    """Raise ValueError, before any run begins, if one of them cannot do what it is to do."""
    from rawtrain.job import decide_work  # tables and tokenizers take a second

    for run in runs:
        allowed.check(run.settings)
        decide_work(run.settings, [s for s in FILE_NAMES if getattr(run.settings, f"{s}_file")])


def do_runs(runs, folder) -> None:
    """Do the runs in their order."""
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    level = logger.level
    for number, run in enumerate(runs, start=1):
        logger.info(f"{number}/{len(runs)} {run.name}")
        start_time = time.monotonic()
        f1 = _do(run, folder).get("predict_f1")
        logger.setLevel(level)  # a run sets its own
        told = "trained" if f1 is None else f"F1 {f1:.3f}"
        logger.info(
            f"{number}/{len(runs)} {run.name}: {told}, {time.monotonic() - start_time:.0f} s"
        )


def metrics_of(run: Run, folder) -> dict:
    """The numbers of a finished run, those of all_results.json."""
    return _stored(run, folder)["metrics"]


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _made_from(settings, hashes):
    return {
        "settings": settings_that_count(settings)
        | {setting: getattr(settings, setting) for setting in COUNTS_HERE},
        "data": hashes,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def _do(run, folder):
    from rawtrain import ner  # torch takes seconds, and a wrong flag is answered before

    with (folder / "runs.txt").open("a", encoding="utf-8") as said:
        said.write(f"\n===== {run.name}\n")
        with contextlib.redirect_stdout(said):
            ner.main(run.settings)
    results = Path(run.settings.output_dir) / "all_results.json"
    metrics = json.loads(results.read_text(encoding="utf-8"))
    write_json(_scores_file(run, folder), {"made_from": run.made_from, "metrics": metrics})
    return metrics


def _stored(run, folder):
    file = _scores_file(run, folder)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _scores_file(run, folder):
    return folder / "scores" / f"{run.name}.json"
