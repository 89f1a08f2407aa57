"""How much of a score is luck? `python -m rawtrain.study.seeds --output_dir DIR -- FLAGS`.

The job that the flags of rawtrain.ner describe is done with five seeds. A seed decides the weights
of the new head, the order of the sentences and the dropout, and nothing that anybody would call a
better method. So a gain that is smaller than what seeds do has to be shown with several of them.

Started again, the command does only the runs that are missing; more seeds join those there.
"""

import argparse
import re
import sys
from dataclasses import dataclass, replace

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import NerSettings, uses_own_data
from rawtrain.errors import RunError
from rawtrain.run import signals
from rawtrain.study.runs import Scores, Study, markdown_table, scores_of

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}
ALL_TYPES = "all types"


def main(arguments: list[str]) -> None:
    """Do the runs that are left, then write and print their table."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.seeds", description=__doc__)
    study = Study(parser, arguments, num_seeds=5)
    with reported_mistakes():
        settings = study.settings()
        check_scored(settings)
        settings = replace(settings, return_entity_level_metrics=True)
        runs = {
            ("job", seed): study.job(f"seed{seed}", replace(settings, seed=seed))
            for seed in study.seeds(settings)
        }
    study.show(collect(study.do(runs)))


def check_scored(settings: NerSettings) -> None:
    """Raise ValueError for a job without data to train on, or to score."""
    if settings.dataset_name or not uses_own_data(settings):
        return
    if not settings.train_file:
        raise ValueError("expected a --train_file: every seed trains a model")
    if not (settings.validation_file or settings.test_file):
        raise ValueError("expected a --test_file or a --validation_file, whose scores are compared")


@dataclass(frozen=True)
class Seeds:
    """What the study found."""

    split: str  # whose scores they are
    samples: int
    scores: dict[str, dict[str, Scores]]  # by type, then by name of the score

    def table(self) -> list[str]:
        """The table in Markdown, with what has to be known to read it."""
        rows = [[kind, *map(str, row.values())] for kind, row in self.scores.items()]
        return [
            *markdown_table(["type", *SCORES.values()], rows),
            "",
            f"On {self.samples:,} {self.split} sentences.",
            *self.scores[ALL_TYPES]["f1"].note,
        ]


def collect(metrics: dict[tuple[str, int], dict]) -> Seeds:
    """The scores of the test data or, where there is none, of the validation data."""
    first = next(iter(metrics.values()))
    prefix, split = ("predict", "test") if "predict_f1" in first else ("eval", "validation")
    if f"{prefix}_f1" not in first:
        raise RunError("the data set has neither test nor validation data, whose scores to compare")
    measured = set.intersection(*(set(of_run) for of_run in metrics.values()))
    kinds = {match[1] for name in measured if (match := re.fullmatch(rf"{prefix}_(.+)_f1", name))}
    scores = {
        ALL_TYPES if kind == "overall" else kind: {
            name: scores_of(metrics, f"{prefix}_{kind}_{name}")["job"] for name in SCORES
        }
        for kind in [*sorted(kinds - {"overall"}), "overall"]
    }
    return Seeds(split, first[f"{prefix}_samples"], scores)


if __name__ == "__main__":
    signals.listen()
    run(main, sys.argv[1:])
