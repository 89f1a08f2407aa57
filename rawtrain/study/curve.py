"""How many sentences does it take? `python -m rawtrain.study.curve --corpus DIR --output_dir ...`.

A model is fine-tuned on the first 250 sentences of a corpus, another on the first 500, and so on,
and their F1 on its test data is drawn over the number of sentences. `--zero_shot_from RUN_DIR`, a
run of rawtrain.ner on another corpus, adds the F1 of its model there: where the curve crosses that
line, labelling sentences begins to pay. It is the figure of chapter 4 of *Natural Language
Processing with Transformers*.

DIR holds train.conll, test.conll and, if there is any, validation.conll (or dev.conll, val.conll).
Flags after `--` are those of rawtrain.ner. Started again, the command goes on where it was; more
sizes or seeds join those that are there.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import argparse
import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.data.conll import read_conll
from rawtrain.results.tables import markdown_table
from rawtrain.run.durable import MANIFEST, write_bytes, write_json, write_text
from rawtrain.run.log import configure_logging
from rawtrain.study.runs import (
    Run,
    check_work,
    do_runs,
    find_corpus,
    metrics_of,
    parse_study,
    prediction_run,
    sha256,
    study_settings,
    training_run,
    unfinished,
)
from rawtrain.study.tables import Scores, seeds_line

SIZES = (250, 500, 1000, 2000, 4000)  # those of the book
ZERO_SHOT = "zero-shot"
CURVE_COLOR, ZERO_SHOT_COLOR = "#0072b2", "#d55e00"  # distinct for the colour-blind too


def main(arguments):
    """Do what is left of the study; write its picture and table, and print the table."""
    options, flags = parse(arguments)
    folder = options.output_dir
    with reported_mistakes():
        corpus = find_corpus("curve", options.corpus)
        settings = study_settings(flags, corpus, folder, decided_here=["max_train_samples"])
        configure_logging(settings)
        sizes = check_sizes(options.sizes, corpus, settings)
        seeds = range(settings.seed, settings.seed + options.seeds)
        runs = {}
        if options.zero_shot_from:  # first: whether its labels fit is known at once
            runs[ZERO_SHOT, None] = zero_shot_run(folder, settings, corpus, options.zero_shot_from)
        runs |= plan(folder, settings, corpus, sizes, seeds)
        left = unfinished(runs.values(), folder)
        check_work(left)
    do_runs(left, folder)
    curve = collect(runs, folder, seeds, options)
    write_json(folder / "curve.json", curve.as_json())
    text = "\n".join(curve.table())
    write_text(folder / "curve.md", text + "\n")
    picture = io.BytesIO()
    curve.figure().savefig(picture, format="png", dpi=100)
    write_bytes(folder / "curve.png", picture.getvalue())
    print(text)
    print(f"\npicture, table and runs: {folder}/")


def parse(arguments):
    """The options, and the flags for rawtrain.ner."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.curve", description=__doc__)
    add = parser.add_argument
    add("--corpus", required=True, type=Path, metavar="DIR", help="what to train and evaluate on")
    add(
        "--sizes",
        nargs="+",
        type=int,
        default=SIZES,
        metavar="N",
        help="numbers of sentences (default: %(default)s)",
    )
    add(
        "--zero_shot_from", type=Path, metavar="RUN_DIR", help="a run of rawtrain.ner on other data"
    )
    return parse_study(parser, arguments)


def check_sizes(sizes, corpus, settings):
    """The sizes in order; ValueError for one that the training data do not have."""
    file = corpus.files["train"]
    num_sentences = len(read_conll(file, settings.token_column, settings.tag_column).words)
    for size in sizes:
        if not 1 <= size <= num_sentences:
            raise ValueError(
                f"--sizes {size}: expected a number from 1 to {num_sentences:,}, the sentences of "
                f"{file}"
            )
    return sorted(set(sizes))


def plan(folder, settings, corpus, sizes, seeds):
    """The runs by (number of sentences, seed)."""
    return {
        (size, seed): training_run(
            f"{size}-seed{seed}",
            folder,
            replace(settings, max_train_samples=size, seed=seed),
            corpus,
        )
        for seed in seeds
        for size in sizes
    }


def zero_shot_run(folder, settings, corpus, run_dir: Path) -> Run:
    """The prediction of the corpus' test data by the model of a finished run on other data."""
    if not (run_dir / MANIFEST).is_file():
        raise ValueError(
            f"--zero_shot_from {run_dir}: expected the output directory of a finished run of "
            f"rawtrain.ner; there is no {MANIFEST}"
        )
    trained = training_run("", folder, settings, corpus)
    trained = Run(
        "",
        replace(trained.settings, output_dir=str(run_dir)),
        {**trained.made_from, "data": {"model": sha256(run_dir / MANIFEST)}},
    )
    return prediction_run(ZERO_SHOT, folder, trained, settings, corpus)


@dataclass(frozen=True)
class Curve:
    """What the study found."""

    corpus: str
    scores: dict[int, Scores]  # by the number of training sentences
    zero_shot: float | None
    zero_shot_from: str | None
    num_test_sentences: int
    seeds: range

    @property
    def pays_from(self) -> int | None:
        """The fewest sentences whose mean F1 is above the zero-shot line; None if none is."""
        above = [size for size, scores in self.scores.items() if scores.mean > self.zero_shot]
        return min(above, default=None)

    def as_json(self):
        return {
            "f1": {str(size): scores.as_json() for size, scores in self.scores.items()},
            "zero_shot": self.zero_shot,
            "zero_shot_from": self.zero_shot_from,
            "predict_samples": self.num_test_sentences,
            "std": "sample standard deviation over seeds, n - 1",
        }

    def table(self) -> list[str]:
        """The table in Markdown, and what it says."""
        rows = [[f"{size:,}", str(scores)] for size, scores in self.scores.items()]
        if self.zero_shot is not None:
            rows.insert(0, ["0 (zero-shot)", f"{self.zero_shot:.3f}"])
        return [
            *markdown_table(["sentences", "F1"], rows),
            "",
            f"F1 on {self.num_test_sentences:,} test sentences of {self.corpus}.",
            *self._crossing(),
            seeds_line(self.seeds),
        ]

    def _crossing(self):
        if self.zero_shot is None:
            return []
        lines = [f"Zero-shot: the model of {self.zero_shot_from}."]
        if self.pays_from is None:
            return [*lines, "No size of these is better than that."]
        return [*lines, f"{self.pays_from:,} sentences of {self.corpus} are better than that."]

    def figure(self):
        """The picture as a matplotlib Figure."""
        # imported here because it takes a second; no pyplot, which keeps every figure in memory
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        sizes, means = list(self.scores), [scores.mean for scores in self.scores.values()]
        label, stds = "fine-tuned", None
        if len(self.seeds) > 1:
            label += f", mean ± standard deviation of {len(self.seeds)} seeds"
            stds = [scores.std for scores in self.scores.values()]
        axes.errorbar(sizes, means, stds, color=CURVE_COLOR, marker="o", capsize=4, label=label)
        tops = [mean + std for mean, std in zip(means, stds or [0] * len(means), strict=True)]
        for size, mean, top in zip(sizes, means, tops, strict=True):
            # above the bar, and to the left, where a rising line is not
            where = {"xytext": (-8, 9), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{mean:.3f}", (size, top), **where)
        if self.zero_shot is not None:
            label = f"zero-shot, {self.zero_shot:.3f}"
            axes.axhline(self.zero_shot, color=ZERO_SHOT_COLOR, linestyle="--", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.margins(x=0.08)
        axes.set(
            xlabel="training sentences (logarithmic)",
            ylabel="F1",
            ylim=(0, 1),
            title=f"F1 on {self.corpus}",
        )
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="best")
        return figure


def collect(runs, folder, seeds, options) -> Curve:
    """The scores of finished runs."""
    metrics = {key: metrics_of(run, folder) for key, run in runs.items()}
    zero_shot = metrics.pop((ZERO_SHOT, None), None)
    return Curve(
        corpus=options.corpus.resolve().name,
        scores={
            size: Scores({seed: metrics[size, seed]["predict_f1"] for seed in seeds})
            for size in dict.fromkeys(size for size, _ in metrics)
        },
        zero_shot=zero_shot and zero_shot["predict_f1"],
        zero_shot_from=zero_shot and str(options.zero_shot_from),
        num_test_sentences=next(iter(metrics.values()))["predict_samples"],
        seeds=seeds,
    )


if __name__ == "__main__":
    run(main, sys.argv[1:])
