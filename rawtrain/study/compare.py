"""Is one run better than another? `python -m rawtrain.study.compare RUN_A RUN_B`.

RUN_A and RUN_B are output directories of rawtrain.ner that predicted the same test data. Their
predictions.conll are compared sentence by sentence, for all entities and for each type: the
difference of F1 with a 95 % interval (bootstrap over sentences, see results/bootstrap.py), and how
often chance alone would make one as large. The latter is approximate randomisation (Noreen 1989;
Yeh 2000): the answers of equal systems could be swapped, so they are, for a random half of the
sentences, thousands of times. The p-value is the share of swaps with a difference as large.

The answer is about these two models on other sentences of the same kind. Another seed of the same
training is another model: see rawtrain.study.seeds.

S sentences, D draws, K groups of counts (all types together, then each type). Counts end in an axis
of 2, as in results/bootstrap.py: entities found rightly, and found and gold.
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from textwrap import shorten

import numpy as np

from rawtrain.cli import command
from rawtrain.data.columns import offsets_of
from rawtrain.data.conll import read_conll
from rawtrain.results.bootstrap import LEVEL, counts_by_sentence, f1_of, resampled, weighted_sums
from rawtrain.results.entities import find_entities
from rawtrain.results.terminal import text_table
from rawtrain.run import signals

GOLD, PREDICTED = 1, 2  # columns of predictions.conll
HEADER = ["", "F1 of A", "F1 of B", "A - B", "95 % interval", "p", "in gold"]
SIGNIFICANT = 0.05
SAME = 1e-12  # equal F1 of other counts may differ in the last bits, as 2/3 - 1/3 and 1/2 - 1/6 do


def main(arguments: list[str]) -> None:
    """Compare two runs and print the result."""
    parser = argparse.ArgumentParser(prog="python -m rawtrain.study.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("run_a", type=Path, metavar="RUN_A", help="output directory of a run")
    add("run_b", type=Path, metavar="RUN_B", help="and that of another")
    add("--draws", type=int, default=10_000, metavar="N", help="of each test (default: 10,000)")
    add("--seed", type=int, default=0, help="of the draws (default: 0)")
    options = parser.parse_args(arguments)
    if options.draws < 1 or options.seed < 0:
        parser.error("--draws must be 1 or more, and --seed 0 or more")
    with command.reported_mistakes():
        gold, tags_a, tags_b = read_predictions(options.run_a, options.run_b)
    types, num_gold, counts_a, counts_b = entity_counts(gold, tags_a, tags_b)
    comparison = compare_counts(counts_a, counts_b, options.draws, options.seed)
    num_other = sum(a != b for a, b in zip(tags_a, tags_b, strict=True))
    print(f"A: {options.run_a}\nB: {options.run_b}")
    print(
        f"{len(gold):,} test sentences, the same for both; {num_other:,} are tagged differently.\n"
    )
    print("\n".join(text_table(HEADER, rows(["all types", *types], comparison, num_gold))))
    print(f"\n{verdict(comparison.difference[0], comparison.p_value[0])}")
    print(
        f"{options.draws:,} draws for each test, seed {options.seed}. Each type is a test of its "
        f"own: of twenty\ntests, one has p below {SIGNIFICANT} by chance."
    )


def read_predictions(run_a: Path, run_b: Path) -> tuple[list, list, list]:
    """The gold tags of both runs and the tags that each predicted, by sentence.

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
        right, found = (read_conll(file, tag_column=column) for column in (GOLD, PREDICTED))
        for tag in set(chain(*right.tags, *found.tags)):
            if tag != "O" and tag[:2] not in ("B-", "I-"):
                raise ValueError(f"{file}: the tag {tag!r} is no IOB2 tag; entities are compared")
        read.append((right.words, right.tags, found.tags))
    (words, gold, tags_a), (other_words, other_gold, tags_b) = read
    for what, all_a, all_b in (("words", words, other_words), ("gold tags", gold, other_gold)):
        for number, pair in enumerate(zip_longest(all_a, all_b), start=1):
            if pair[0] != pair[1]:
                a, b = (shorten(" ".join(s or ["(none)"]), 90, placeholder=" ...") for s in pair)
                raise ValueError(
                    f"{run_a} and {run_b} predicted different test data ({len(all_a):,} and "
                    f"{len(all_b):,} sentences): the {what} of sentence {number} differ\n  {a}\n"
                    f"  {b}\npredict the same --test_file, and as much of it, with both models"
                )
    return gold, tags_a, tags_b


def entity_counts(gold, tags_a, tags_b):
    """The types [K - 1], the gold entities [K], and the counts [S, K, 2] of each system."""
    flat = [list(chain(*tags)) for tags in (gold, tags_a, tags_b)]
    names, labels = np.unique(flat, return_inverse=True)
    offsets = offsets_of([len(tags) for tags in gold])
    right, *systems = (
        find_entities(ids, names.tolist(), offsets) for ids in labels.reshape(len(flat), -1)
    )
    num_gold = np.bincount(right.type, minlength=len(right.types))
    by_type = [counts_by_sentence(right, found, offsets) for found in systems]
    both = [np.concatenate([n.sum(1, keepdims=True), n], axis=1) for n in by_type]
    return right.types, [len(right), *num_gold], *both


@dataclass(frozen=True)
class Comparison:
    """F1 of two systems on the same sentences; arrays [K]."""

    f1_a: np.ndarray
    f1_b: np.ndarray
    p_value: np.ndarray  # two-sided
    lower: np.ndarray  # of the interval of f1_a - f1_b
    upper: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        return self.f1_a - self.f1_b


def compare_counts(
    counts_a: np.ndarray, counts_b: np.ndarray, num_draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two systems by their counts [S, K, 2] over the same sentences."""
    p_value = randomisation_p_value(counts_a, counts_b, num_draws, seed)
    lower, upper = bootstrap_interval(counts_a, counts_b, num_draws, seed)
    return Comparison(f1_of(counts_a.sum(0)), f1_of(counts_b.sum(0)), p_value, lower, upper)


def randomisation_p_value(counts_a, counts_b, num_draws: int, seed: int) -> np.ndarray:
    """The two-sided p-values [K] of "both systems are equal", by approximate randomisation.

    The way in which the systems did tag counts as one draw more, so that no p-value is 0.
    """
    rng = np.random.default_rng(seed)
    is_swapped = (rng.random(len(counts_a)) < 0.5 for _ in range(num_draws))
    moved = weighted_sums(counts_b - counts_a, is_swapped)  # [D, K, 2]
    total_a, total_b = counts_a.sum(0), counts_b.sum(0)
    differences = f1_of(total_a + moved) - f1_of(total_b - moved)
    found = abs(f1_of(total_a) - f1_of(total_b))
    return (1 + (abs(differences) >= found - SAME).sum(0)) / (1 + num_draws)


def bootstrap_interval(counts_a, counts_b, num_draws: int, seed: int) -> np.ndarray:
    """The interval [2, K] of the difference of F1 over samples of the sentences."""
    f1 = f1_of(resampled(np.stack([counts_a, counts_b], axis=1), num_draws, seed))  # [D, 2, K]
    tail = (1 - LEVEL) / 2
    return np.quantile(f1[:, 0] - f1[:, 1], [tail, 1 - tail], axis=0)


def rows(names, comparison: Comparison, num_gold) -> list[list[str]]:
    """The rows of the table: all types, then each."""
    numbers = zip(names, *vars(comparison).values(), num_gold, strict=True)
    return [
        [
            *(name, f"{f1_a:.3f}", f"{f1_b:.3f}", f"{f1_a - f1_b:+.3f}"),
            *(f"{lower:+.3f} to {upper:+.3f}", f"{p_value:.4f}", f"{number:,}"),
        ]
        for name, f1_a, f1_b, p_value, lower, upper, number in numbers
    ]


def verdict(difference: float, p_value: float) -> str:
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
    signals.listen()
    command.run(main, sys.argv[1:])
