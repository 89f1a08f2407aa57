"""Which corpora help which: `python -m rawtrain.study.transfer --corpora de=DIR en=DIR ...`.

A model is fine-tuned on each corpus, and one on all of them together, and each is evaluated on the
test data of every corpus. It is the last table of chapter 4 of *Natural Language Processing with
Transformers*, with the zero-shot scores from every corpus, not from German alone.

DIR holds train.conll, test.conll and, if there is any, validation.conll (or dev.conll, val.conll).
Flags after `--` are those of rawtrain.ner. Started again, the command does only the runs that are
missing; more seeds join those there. With other corpora, `all` and so the study is another one.
"""

import argparse
import re
import sys
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import NerSettings
from rawtrain.run import signals
from rawtrain.study.corpora import ALL, Corpus, find_corpus, write_corpus_of_all
from rawtrain.study.runs import Scores, Study, StudyRun, markdown_table, scores_of

EACH = "each"  # the row of models that were evaluated on what they were trained on


def main(arguments: list[str]) -> None:
    """Do what is left of the study, then write and print its table."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.transfer", description=__doc__)
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME=DIR")
    study = Study(parser, arguments)
    with reported_mistakes():
        corpora = find_corpora(study.options.corpora)
        settings = study.settings(**corpora[0].settings)
        together = write_corpus_of_all(corpora, settings, study.folder)
        sources = [*((corpus, settings) for corpus in corpora), together]
        runs = plan(study, sources)
    study.show(collect(study.do(runs)))


def find_corpora(given: list[str]) -> list[Corpus]:
    """The corpora of `NAME=DIR` arguments."""
    corpora = []
    for argument in given:
        name, _, folder = argument.partition("=")
        if not folder or not re.fullmatch(r"\w+", name) or name in (ALL, EACH):
            raise ValueError(
                f"--corpora {argument}: expected NAME=DIR with a name of letters, digits and _ "
                f"that is neither {ALL} nor {EACH}"
            )
        corpora.append(find_corpus(name, folder))
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"--corpora {' '.join(names)}: expected two or more, of different names")
    return corpora


def plan(study: Study, sources: list[tuple[Corpus, NerSettings]]) -> dict[Any, StudyRun]:
    """The runs by ((trained on, evaluated on), seed), a training before its predictions.

    sources: the corpora and the settings of a run on each; the last is all of them.
    """
    runs = {}
    for seed, (source, settings) in product(study.seeds(sources[0][1]), sources):
        trained = study.training(f"{source.name}-seed{seed}", replace(settings, seed=seed), source)
        runs[(source.name, source.name), seed] = trained
        model = trained.settings.output_dir
        for target, reading in sources[:-1]:
            if target is not source:
                name = f"{source.name}-on-{target.name}-seed{seed}"
                reading = replace(reading, seed=seed)
                run = study.prediction(name, reading, target, model, source.hashes)
                runs[(source.name, target.name), seed] = run
    return runs


@dataclass(frozen=True)
class Transfer:
    """What the study found."""

    f1: dict[str, dict[str, Scores]]  # by what was trained on, then by what was evaluated on
    best: dict[str, list[str]]  # for each test data what was trained on for the highest mean
    train_samples: dict[str, int]
    predict_samples: dict[str, int]

    def table(self) -> list[str]:
        """The table in Markdown, with what has to be known to read it."""
        names = list(self.predict_samples)
        numbers = sorted({self.train_samples[name] for name in names})
        of_each = "-".join(f"{number:,}" for number in sorted({numbers[0], numbers[-1]}))
        cells = {
            source: [f"**{f1}**" if source in self.best[to] else str(f1) for to, f1 in row.items()]
            for source, row in self.f1.items()
        }
        rows = [[source, f"{self.train_samples[source]:,}", *row] for source, row in cells.items()]
        rows.insert(-1, [EACH, of_each, *(cells[name][at] for at, name in enumerate(names))])
        tested = ", ".join(f"{name} {number:,}" for name, number in self.predict_samples.items())
        return [
            *markdown_table(["fine-tuned on", "sentences", *names], rows),
            "",
            f"F1 on the test data of the corpus above (sentences: {tested}); the best in bold.",
            f"{EACH}: the diagonal above it. Off the diagonal the scores are zero-shot: these",
            "models were fine-tuned on no sentence of that corpus.",
            *self.f1[ALL][names[0]].note,
        ]


def collect(metrics: dict[tuple[tuple[str, str], int], dict]) -> Transfer:
    """The scores of finished runs."""
    first = {source: of_run for ((source, to), _), of_run in metrics.items() if source == to}
    names = [name for name in first if name != ALL]
    scores = scores_of(metrics, "predict_f1")
    f1 = {source: {name: scores[source, name] for name in names} for source in first}
    highest = {name: max(row[name].mean for row in f1.values()) for name in names}
    return Transfer(
        f1,
        {name: [row for row in f1 if f1[row][name].mean == highest[name]] for name in names},
        {source: of_run["train_samples"] for source, of_run in first.items()},
        {name: first[name]["predict_samples"] for name in names},
    )


if __name__ == "__main__":
    signals.listen()
    run(main, sys.argv[1:])
