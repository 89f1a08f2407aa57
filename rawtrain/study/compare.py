"""Is one run better than another? `python -m rawtrain.study.compare RUN_A RUN_B`.

RUN_A and RUN_B are output directories of rawtrain.ner that predicted the same test data. Their
predictions.conll are compared sentence by sentence: the difference of F1 with a 95 % interval
(bootstrap over sentences), and how often chance alone would make one as large (approximate
randomisation over sentences), for all entities and for each type. significance.py has both tests.

What it tells is about these two models on other sentences of the same kind; another seed of the
same training is another model, see --seeds of rawtrain.study.transfer.
"""

from rawtrain.run import signals

if __name__ == "__main__":
    signals.listen()  # imports take seconds, and a signal may come in the first of them

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from textwrap import shorten

import numpy as np

from rawtrain.cli.command import reported_mistakes
from rawtrain.data.conll import read_conll
from rawtrain.data.tags import IOB_TAG
from rawtrain.study.significance import Comparison, compare_counts

WORD, GOLD, PREDICTED = 0, 1, 2  # columns of predictions.conll
SIGNIFICANT = 0.05


def main(arguments):
    """Compare two runs and print the result."""
    options = parse(arguments)
    with reported_mistakes():
        gold, tags_a, tags_b = read_predictions(options.run_a, options.run_b)
    types, counts_a, counts_b = entity_counts(gold, tags_a, tags_b)
    comparison = compare_counts(counts_a, counts_b, options.draws, options.seed)
    num_other = sum(a != b for a, b in zip(tags_a, tags_b, strict=True))
    print(f"A: {options.run_a}\nB: {options.run_b}")
    print(
        f"{len(gold):,} test sentences, the same for both; {num_other:,} are tagged differently.\n"
    )
    print("\n".join(table(["all types", *types], comparison, counts_a.sum(0)[:, 2])))
    print(f"\n{verdict(comparison.difference[0], comparison.p_value[0])}")
    print(
        f"{options.draws:,} draws for each test, seed {options.seed}. Each type is a test of its "
        f"own; of twenty\ntests, one has p below {SIGNIFICANT} by chance."
    )


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m rawtrain.study.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="output directory of a run")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="and that of another")
    add = parser.add_argument
    add("--draws", type=int, default=10_000, metavar="N", help="of each test (default: 10,000)")
    add("--seed", type=int, default=0, help="of the draws (default: 0)")
    options = parser.parse_args(arguments)
    if options.draws < 1 or options.seed < 0:
        parser.error("--draws must be 1 or more, and --seed 0 or more")
    return options


def read_predictions(run_a, run_b):
    """The gold tags of both runs and the tags that each predicted.

    Raises ValueError if the runs are over different sentences, with the first that differs.
    """
    read = []
    for run in (run_a, run_b):
        file = run / "predictions.conll"
        if not file.is_file():
            raise ValueError(
                f"{file} is not there; expected the output directory of a run of rawtrain.ner with "
                f"--test_file (on a finished run, --do_predict makes it)"
            )
        gold, predicted = (read_conll(file, WORD, column) for column in (GOLD, PREDICTED))
        check_tags(gold.tags + predicted.tags, file)
        read.append((gold.words, gold.tags, predicted.tags))
    (words, gold, tags_a), (words_b, gold_b, tags_b) = read
    check_same("words", words, words_b, run_a, run_b)
    check_same("gold tags", gold, gold_b, run_a, run_b)
    return gold, tags_a, tags_b


def check_same(what, sentences_a, sentences_b, run_a, run_b) -> None:
    """Refuse runs with different sentences, and show where they differ."""
    for number, (a, b) in enumerate(zip_longest(sentences_a, sentences_b), start=1):
        if a != b:
            sizes = f"{len(sentences_a):,} and {len(sentences_b):,} sentences"
            shown = [shorten(" ".join(s or ["(none)"]), 90, placeholder=" ...") for s in (a, b)]
            raise ValueError(
                f"{run_a} and {run_b} predicted different test data ({sizes}): the {what} of "
                f"sentence {number} differ\n  {shown[0]}\n  {shown[1]}\n"
                f"predict the same --test_file, and as much of it, with both models"
            )


def check_tags(sentences, file) -> None:
    for tag in {tag for sentence in sentences for tag in sentence}:
        if not IOB_TAG.fullmatch(tag):
            raise ValueError(f"{file}: the tag {tag!r} is no IOB tag; entities are compared here")


def entity_counts(gold, tags_a, tags_b):
    """The types, and of each system the counts [S, 1 + types, 3] that significance.py takes."""
    from seqeval.metrics.sequence_labeling import get_entities  # sklearn takes a second

    gold, *found = (
        [set(get_entities(tags)) for tags in sentences] for sentences in (gold, tags_a, tags_b)
    )
    types = sorted({entity[0] for system in (gold, *found) for row in system for entity in row})
    column = {name: number for number, name in enumerate(types, start=1)}
    both = []
    for system in found:
        counts = np.zeros((len(gold), 1 + len(types), 3), dtype=np.int64)
        for sentence, (right, said) in enumerate(zip(gold, system, strict=True)):
            for kind, entities in enumerate((right & said, said, right)):
                for name, *_ in entities:
                    counts[sentence, [0, column[name]], kind] += 1
        both.append(counts)
    return types, *both


def table(names, comparison: Comparison, num_gold) -> list[str]:
    """Lines with what the two tests found, for all types and each."""
    width = max(map(len, names))
    lines = [f"{'':<{width}}   F1 of A  F1 of B   A - B    95 % interval       p  in gold"]
    for name, row in zip(names, range(len(names)), strict=True):
        f1_a, f1_b, p_value, lower, upper = (values[row] for values in vars(comparison).values())
        interval = f"{lower:+.3f} to {upper:+.3f}"
        numbers = f"{f1_a:>10.3f}{f1_b:>9.3f}{f1_a - f1_b:>+8.3f}{interval:>17}{p_value:>8.4f}"
        lines.append(f"{name:<{width}}{numbers}{num_gold[row]:>9,}")
    return lines


def verdict(difference, p_value) -> str:
    """What the difference of all types means, in words.

    >>> verdict(-0.02, 0.004)
    'B is better than A: of equal systems, 0.4 % would differ by as much (p = 0.0040).'
    """
    if difference == 0:
        return "Both have the same F1."
    better, worse = "AB" if difference > 0 else "BA"
    share = "less than 0.01" if p_value < 0.0001 else f"{100 * p_value:.2g}"  # no draw was as large
    chance = f"of equal systems, {share} % would differ by as much (p = {p_value:.4f})."
    if p_value < SIGNIFICANT:
        return f"{better} is better than {worse}: {chance}"
    return f"{better} has the higher F1, but that may be chance: {chance}"


if __name__ == "__main__":
    main(sys.argv[1:])
