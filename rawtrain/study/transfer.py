"""Which corpora help which: `python -m rawtrain.study.transfer --corpora de=DIR en=DIR ...`.

A model is fine-tuned on each corpus, and one on all of them together, and each is evaluated on the
test data of every corpus. It is the last table of chapter 4 of *Natural Language Processing with
Transformers*, with the zero-shot scores from every corpus, not from German alone.

DIR holds train.conll, test.conll and, if there is any, validation.conll (or dev.conll, val.conll).
Flags after `--` are those of rawtrain.ner. Started again, the command goes on where it was; more
seeds join those that are there. Other corpora are another study, since `all` is another model then.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import argparse
import re
import sys
from dataclasses import dataclass, replace

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.results.tables import markdown_table
from rawtrain.run.durable import write_json, write_text
from rawtrain.run.log import configure_logging
from rawtrain.study.runs import (
    Corpus,
    check_work,
    do_runs,
    find_corpus,
    metrics_of,
    parse_study,
    prediction_run,
    study_settings,
    training_run,
    unfinished,
)
from rawtrain.study.tables import Scores, seeds_line
from rawtrain.study.together import ALL, corpus_of_all, settings_of_all, write_corpus_of_all

EACH = "each"  # the row of models that were evaluated on what they were trained on


def main(arguments):
    """Do what is left of the study, then write and print its table."""
    options, flags = parse(arguments)
    folder = options.output_dir
    with reported_mistakes():
        corpora = find_corpora(options.corpora)
        settings = study_settings(flags, corpora[0], folder)
        configure_logging(settings)
        seeds = range(settings.seed, settings.seed + options.seeds)
        together = corpus_of_all(corpora, settings, folder)
        runs = plan(folder, settings, corpora, together, seeds)
        left = unfinished(runs.values(), folder)
        if left:
            write_corpus_of_all(together, corpora, settings)
        check_work(left)
    do_runs(left, folder)
    result = collect(runs, folder, seeds)
    write_json(folder / "transfer.json", result.as_json())
    text = "\n".join(result.table())
    write_text(folder / "transfer.md", text + "\n")
    print(text)
    print(f"\ntable and runs: {folder}/")


def parse(arguments):
    """The options, and the flags for rawtrain.ner."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.transfer", description=__doc__)
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME=DIR")
    return parse_study(parser, arguments)


def find_corpora(given) -> list[Corpus]:
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


def plan(folder, settings, corpora, together, seeds):
    """The runs by (trained on, evaluated on, seed), a training before its predictions."""
    runs = {}
    for seed in seeds:
        settings = replace(settings, seed=seed)
        for source in (*corpora, together):
            own = settings_of_all(settings) if source is together else settings
            trained = training_run(f"{source.name}-seed{seed}", folder, own, source)
            runs[source.name, source.name, seed] = trained
            for target in corpora:
                if target is not source:
                    name = f"{source.name}-on-{target.name}-seed{seed}"
                    predicting = prediction_run(name, folder, trained, settings, target)
                    runs[source.name, target.name, seed] = predicting
    return runs


@dataclass(frozen=True)
class Transfer:
    """What the study found."""

    names: list[str]  # of the corpora
    scores: dict[str, dict[str, Scores]]  # by what was trained on, then by what was evaluated on
    num_sentences: dict[str, int]  # trained on
    num_test_sentences: dict[str, int]
    seeds: range

    @property
    def rows(self) -> dict[str, dict[str, Scores]]:
        """The rows of the table: each corpus, the diagonal once more as in the book, and all."""
        each = {name: self.scores[name][name] for name in self.names}
        return {
            **{name: self.scores[name] for name in self.names},
            EACH: each,
            ALL: self.scores[ALL],
        }

    def best(self, name) -> float:
        """The highest mean F1 on the test data of a corpus."""
        return max(row[name].mean for row in self.rows.values())

    def as_json(self):
        return {
            "f1": {
                source: {name: scores.as_json() for name, scores in row.items()}
                for source, row in self.scores.items()
            },
            "best": {
                name: [row for row in self.scores if self.scores[row][name].mean == self.best(name)]
                for name in self.names
            },
            "train_samples": self.num_sentences,
            "predict_samples": self.num_test_sentences,
            "std": "sample standard deviation over seeds, n - 1",
        }

    def table(self) -> list[str]:
        """The table in Markdown, with what has to be known to read it."""
        rows = []
        for source, row in self.rows.items():
            counts = {
                self.num_sentences[name] for name in (self.names if source == EACH else [source])
            }
            counts = "-".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
            cells = [
                f"**{row[name]}**" if row[name].mean == self.best(name) else str(row[name])
                for name in self.names
            ]
            rows.append([source, counts, *cells])
        tested = ", ".join(f"{name} {self.num_test_sentences[name]:,}" for name in self.names)
        return [
            *markdown_table(["fine-tuned on", "sentences", *self.names], rows),
            "",
            f"F1 on the test data of the corpus above (sentences: {tested}); the best in bold.",
            f"{EACH}: the diagonal above it. Beside the diagonal the scores are zero-shot: these",
            "models were fine-tuned on no sentence of that corpus.",
            seeds_line(self.seeds),
        ]


def collect(runs, folder, seeds) -> Transfer:
    """The scores of finished runs."""
    metrics = {key: metrics_of(run, folder) for key, run in runs.items()}
    names = [
        source for source, target, seed in runs if source == target != ALL and seed == seeds[0]
    ]
    scores = {
        source: {
            name: Scores({seed: metrics[source, name, seed]["predict_f1"] for seed in seeds})
            for name in names
        }
        for source in (*names, ALL)
    }
    first = {
        (source, target): found
        for (source, target, seed), found in metrics.items()
        if seed == seeds[0]
    }
    return Transfer(
        names,
        scores,
        {name: first[name, name]["train_samples"] for name in (*names, ALL)},
        {name: first[name, name]["predict_samples"] for name in names},
        seeds,
    )


if __name__ == "__main__":
    run(main, sys.argv[1:])
