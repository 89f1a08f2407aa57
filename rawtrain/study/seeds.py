"""How much of a score is luck? `python -m rawtrain.study.seeds --output_dir DIR -- FLAGS`.

The job that the flags of rawtrain.ner describe is done with five seeds. A seed decides the weights
of the new head, the order of the sentences and the dropout, and nothing that anybody would call a
better method: a gain that is smaller than what seeds do has to be shown with more than one of them.

Started again, the command goes on where it was; more seeds join those that are there.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import argparse
import re
import sys
from dataclasses import dataclass, replace

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import uses_own_data
from rawtrain.errors import RunError
from rawtrain.results.tables import markdown_table
from rawtrain.run.durable import write_json, write_text
from rawtrain.run.log import configure_logging
from rawtrain.study.runs import do_runs, job_run, job_settings, metrics_of, parse_study, unfinished
from rawtrain.study.tables import Scores, seeds_line

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}
ALL_TYPES = "all types"


def main(arguments):
    """Do the runs that are left, then write and print their table."""
    options, flags = parse(arguments)
    folder = options.output_dir
    with reported_mistakes():
        settings = job_settings(flags, folder)
        check_scored(settings)
        configure_logging(settings)
        seeds = range(settings.seed, settings.seed + options.seeds)
        of_seed = {seed: replace(settings, seed=seed) for seed in seeds}
        runs = {seed: job_run(f"seed{seed}", folder, job) for seed, job in of_seed.items()}
        left = unfinished(runs.values(), folder)
    do_runs(left, folder)
    result = collect({seed: metrics_of(run, folder) for seed, run in runs.items()})
    write_json(folder / "seeds.json", result.as_json())
    text = "\n".join(result.table())
    write_text(folder / "seeds.md", text + "\n")
    print(text)
    print(f"\ntable and runs: {folder}/")


def parse(arguments):
    """The options, and the flags for rawtrain.ner."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.seeds", description=__doc__)
    return parse_study(parser, arguments, num_seeds=5)


def check_scored(settings):
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
    num_sentences: int
    scores: dict[str, dict[str, Scores]]  # by type, then by name of the score
    seeds: list[int]

    def as_json(self):
        return {
            "split": self.split,
            "samples": self.num_sentences,
            "scores": {
                kind: {name: scores.as_json() for name, scores in row.items()}
                for kind, row in self.scores.items()
            },
            "std": "sample standard deviation over seeds, n - 1",
        }

    def table(self) -> list[str]:
        """The table in Markdown, with what has to be known to read it."""
        rows = [[kind, *map(str, row.values())] for kind, row in self.scores.items()]
        return [
            *markdown_table(["type", *SCORES.values()], rows),
            "",
            f"On {self.num_sentences:,} {self.split} sentences.",
            seeds_line(self.seeds),
        ]


def collect(metrics) -> Seeds:
    """The scores of finished runs, from their metrics by seed.

    They are those of the test data or, where there is none, of the validation data.
    """
    first = next(iter(metrics.values()))
    prefix = "predict" if "predict_f1" in first else "eval"
    if f"{prefix}_f1" not in first:
        raise RunError("the data set has neither test nor validation data, whose scores to compare")
    measured = set.intersection(*(set(of_run) for of_run in metrics.values()))
    kinds = {match[1] for name in measured if (match := re.fullmatch(rf"{prefix}_(.+)_f1", name))}
    kinds = [*sorted(kinds - {"overall"}), "overall"]
    scores = {
        ALL_TYPES if kind == "overall" else kind: {
            name: Scores(
                {seed: of_run[f"{prefix}_{kind}_{name}"] for seed, of_run in metrics.items()}
            )
            for name in SCORES
        }
        for kind in kinds
    }
    split = {"predict": "test", "eval": "validation"}[prefix]
    return Seeds(split, first[f"{prefix}_samples"], scores, list(metrics))


if __name__ == "__main__":
    run(main, sys.argv[1:])
