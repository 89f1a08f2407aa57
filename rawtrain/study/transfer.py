"""Which corpora help which: `python -m rawtrain.study.transfer --corpora de=DIR en=DIR ...`.

A model is fine-tuned on each corpus, and one on all of them together, and each is evaluated on the
test data of every corpus. It is the last table of chapter 4 of *Natural Language Processing with
Transformers*, with the zero-shot scores from every corpus, not from German alone.

DIR holds train.conll, test.conll and, if there is any, validation.conll (or dev.conll, val.conll).
Flags after `--` are those of rawtrain.ner. Started again, the command does only the runs that are
missing; more seeds join those there. Other corpora are another study, since `all` is another model
then.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import NerSettings
from rawtrain.results.tables import markdown_table
from rawtrain.study.corpora import (
    ALL,
    Corpus,
    corpus_of_all,
    find_corpus,
    settings_of_all,
    write_corpus_of_all,
)
from rawtrain.study.runs import (
    Run,
    check_runs,
    do_runs,
    parse_study,
    prediction_run,
    seeds_from,
    study_settings,
    training_run,
    unfinished,
)
from rawtrain.study.tables import Scores, show

EACH = "each"  # the row of models that were evaluated on what they were trained on


def main(arguments: list[str]) -> None:
    """Do what is left of the study, then write and print its table."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.transfer", description=__doc__)
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME=DIR")
    options, flags = parse_study(parser, arguments)
    folder = options.output_dir
    with reported_mistakes():
        corpora = find_corpora(options.corpora)
        settings = study_settings(flags, folder, **corpora[0].settings)
        together = corpus_of_all(corpora, settings, folder)
        runs = plan(folder, settings, corpora, together, options.seeds)
        left = unfinished(runs.values(), folder)
        if left:
            write_corpus_of_all(together, corpora, settings)
        check_runs(left)
    show(collect(do_runs(runs, left, folder)), "transfer", folder)


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


def plan(
    folder: Path, settings: NerSettings, corpora: list[Corpus], together: Corpus, num_seeds: int
) -> dict[tuple[str, str, int], Run]:
    """The runs by (trained on, evaluated on, seed), a training before its predictions."""
    runs = {}
    for seed in seeds_from(settings.seed, num_seeds):
        settings = replace(settings, seed=seed)
        for source in (*corpora, together):
            own = settings_of_all(settings) if source is together else settings
            trained = training_run(f"{source.name}-seed{seed}", folder, own, source)
            runs[source.name, source.name, seed] = trained
            model = trained.settings.output_dir
            for target in corpora:
                if target is not source:
                    name = f"{source.name}-on-{target.name}-seed{seed}"
                    runs[source.name, target.name, seed] = prediction_run(
                        name, folder, settings, target, model, source.hashes
                    )
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
        numbers = {self.train_samples[name] for name in names}
        of_each = "-".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))
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


def collect(metrics: dict[tuple[str, str, int], dict]) -> Transfer:
    """The scores of finished runs."""
    by_seed: dict[str, dict[str, dict[int, float]]] = {}
    train_samples, predict_samples = {}, {}
    for (source, target, seed), of_run in metrics.items():
        if source == target:
            train_samples[source] = of_run["train_samples"]
        if target != ALL:
            predict_samples[target] = of_run["predict_samples"]
            by_seed.setdefault(source, {}).setdefault(target, {})[seed] = of_run["predict_f1"]
    names = [name for name in train_samples if name != ALL]
    f1 = {source: {name: Scores(row[name]) for name in names} for source, row in by_seed.items()}
    highest = {name: max(row[name].mean for row in f1.values()) for name in names}
    best = {name: [row for row in f1 if f1[row][name].mean == highest[name]] for name in names}
    tested = {name: predict_samples[name] for name in names}
    return Transfer(f1, best, train_samples, tested)


if __name__ == "__main__":
    run(main, sys.argv[1:])
