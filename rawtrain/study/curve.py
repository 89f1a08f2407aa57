"""How many sentences does it take? `python -m rawtrain.study.curve --corpus DIR --output_dir ...`.

A model is fine-tuned on the first 250 sentences of a corpus, another on the first 500, and so on,
and their F1 on its test data is drawn over the number of sentences. `--zero_shot_from RUN_DIR`, a
run of rawtrain.ner on another corpus, adds the F1 of its model there: where the curve crosses that
line, labelling sentences begins to pay. It is the figure of chapter 4 of *Natural Language
Processing with Transformers*.

DIR holds train.conll, test.conll and, if there is any, validation.conll (or dev.conll, val.conll).
Flags after `--` are those of rawtrain.ner. Started again, the command does only the runs that are
missing; more sizes or seeds join those there.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import NerSettings
from rawtrain.data.files import sha256_of
from rawtrain.data.sources import read_sentences
from rawtrain.run import signals
from rawtrain.run.durable import MANIFEST
from rawtrain.study.corpora import Corpus, find_corpus
from rawtrain.study.runs import Scores, Study, StudyRun, markdown_table, scores_of

SIZES = (250, 500, 1000, 2000, 4000)  # those of the book
CURVE_COLOR, ZERO_SHOT_COLOR = "#0072b2", "#d55e00"  # distinct for the colour-blind too


def main(arguments: list[str]) -> None:
    """Do what is left of the study; write its picture and table, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.curve", description=__doc__)
    add = parser.add_argument
    add("--corpus", required=True, type=Path, metavar="DIR", help="what to train and evaluate on")
    help_text = "numbers of sentences (default: %(default)s)"
    add("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help=help_text)
    help_text = "a run of rawtrain.ner on other data"
    add("--zero_shot_from", type=Path, metavar="RUN_DIR", help=help_text)
    study = Study(parser, arguments)
    with reported_mistakes():
        corpus = find_corpus("curve", study.options.corpus)
        settings = study.settings(max_train_samples=None, **corpus.settings)
        sizes = check_sizes(study.options.sizes, corpus, settings)
        runs: dict[tuple[int, int | None], StudyRun] = {}  # by number of sentences, and seed
        if study.options.zero_shot_from:  # first: whether its labels fit is known at once
            runs[0, None] = zero_shot_run(study, settings, corpus)
        for seed in study.seeds(settings):
            for size in sizes:
                own = replace(settings, max_train_samples=size, seed=seed)
                runs[size, seed] = study.training(f"{size}-seed{seed}", own, corpus)
    metrics = study.do(runs)
    f1, zero_shot_from = scores_of(metrics, "predict_f1"), study.options.zero_shot_from
    curve = Curve(
        corpus=study.options.corpus.resolve().name,
        zero_shot=f1.pop(0).mean if zero_shot_from else None,
        zero_shot_from=zero_shot_from and str(zero_shot_from),
        f1=f1,
        predict_samples=next(iter(metrics.values()))["predict_samples"],
    )
    study.show(curve)
    curve.figure().savefig(study.folder / "curve.png", dpi=100)
    print(f"picture: {study.folder / 'curve.png'}")


def check_sizes(sizes: list[int], corpus: Corpus, settings: NerSettings) -> list[int]:
    """The sizes in order; ValueError for one that the training data do not have."""
    file = corpus.files["train"]
    num_sentences = len(read_sentences(str(file), settings).words)
    for size in sizes:
        if not 1 <= size <= num_sentences:
            expected = f"expected a number from 1 to {num_sentences:,}, the sentences of {file}"
            raise ValueError(f"--sizes {size}: {expected}")
    return sorted(set(sizes))


def zero_shot_run(study: Study, settings: NerSettings, corpus: Corpus) -> StudyRun:
    """The prediction of the corpus' test data by the model of a finished run on other data."""
    manifest = study.options.zero_shot_from / MANIFEST
    if not manifest.is_file():
        raise ValueError(
            f"--zero_shot_from {manifest.parent}: expected the output directory of a finished run "
            f"of rawtrain.ner; there is no {MANIFEST}"
        )
    hashes = {"model": sha256_of(manifest)}
    return study.prediction("zero-shot", settings, corpus, str(manifest.parent), hashes)


@dataclass(frozen=True)
class Curve:
    """What the study found."""

    corpus: str
    f1: dict[int, Scores]  # by the number of training sentences
    zero_shot: float | None
    zero_shot_from: str | None
    predict_samples: int

    def table(self) -> list[str]:
        """The table in Markdown, with what has to be known to read it."""
        rows = [[f"{size:,}", str(scores)] for size, scores in self.f1.items()]
        notes = [f"F1 on {self.predict_samples:,} test sentences of {self.corpus}."]
        if self.zero_shot is not None:
            rows.insert(0, ["0 (zero-shot)", f"{self.zero_shot:.3f}"])
            better = [size for size, scores in self.f1.items() if scores.mean > self.zero_shot]
            notes += [
                f"Zero-shot: the model of {self.zero_shot_from}.",
                f"{min(better):,} sentences of {self.corpus} are better than that."
                if better
                else "No size of these is better than that.",
            ]
        notes += next(iter(self.f1.values())).note
        return [*markdown_table(["sentences", "F1"], rows), "", *notes]

    def figure(self):
        """The picture as a matplotlib Figure."""
        from matplotlib.figure import Figure  # it takes a second

        warnings.filterwarnings("ignore", "Glyph")  # of a name whose letters the font lacks
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        sizes, means = list(self.f1), [scores.mean for scores in self.f1.values()]
        stds = [scores.std or 0 for scores in self.f1.values()]
        label, bars = "fine-tuned", None
        if (num_seeds := len(self.f1[sizes[0]].by_seed)) > 1:
            label, bars = f"{label}, mean ± standard deviation of {num_seeds} seeds", stds
        axes.errorbar(sizes, means, bars, color=CURVE_COLOR, marker="o", capsize=4, label=label)
        for size, mean, std in zip(sizes, means, stds, strict=True):
            # above the bar, and to the left, where a rising line is not
            where = {"xytext": (-8, 9), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{mean:.3f}", (size, mean + std), **where)
        if self.zero_shot is not None:
            label = f"zero-shot, {self.zero_shot:.3f}"
            axes.axhline(self.zero_shot, color=ZERO_SHOT_COLOR, linestyle="--", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="training sentences (logarithmic)", ylabel="F1", ylim=(0, 1))
        axes.set_title(f"F1 on {self.corpus}")
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.legend(frameon=False, loc="best")
        return figure


if __name__ == "__main__":
    signals.listen()
    run(main, sys.argv[1:])
