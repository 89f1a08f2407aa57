"""Is one system better than another? Two tests on counts of entities per sentence.

Approximate randomisation (Noreen 1989; Yeh 2000, "More accurate tests for the statistical
significance of result differences"): were the two systems equal, it would not matter which of them
tagged a sentence. So their answers are swapped for a random half of the sentences, thousands of
times; the p-value is the share of swaps that give a difference of F1 as large as the one found.

Bootstrap: sentences are drawn anew, with replacement, and both systems scored on the same draw; the
middle 95 % of the differences are an interval for the difference.

Letters for shapes: S sentences, D draws, K groups of counts (all types together, then each type),
and a last axis of 3: entities found rightly, entities predicted, entities in gold.
"""

from dataclasses import dataclass

import numpy as np

DRAWS_AT_ONCE = 250  # of 10,000 sentences: 20 MB of numbers
CONFIDENCE = 0.95
# Equal F1 of other counts may differ in their last bits, as 2/3 - 1/3 and 1/2 - 1/6 do.
SAME = 1e-12


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


def compare_counts(counts_a, counts_b, num_draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two systems by their counts [S, K, 3] over the same sentences."""
    f1_a, f1_b = f1(counts_a.sum(0)), f1(counts_b.sum(0))
    lower, upper = bootstrap_interval(counts_a, counts_b, num_draws, seed)
    p_value = randomisation_p_value(counts_a, counts_b, num_draws, seed)
    return Comparison(f1_a, f1_b, p_value, lower, upper)


def randomisation_p_value(counts_a, counts_b, num_draws, seed) -> np.ndarray:
    """The two-sided p-values [K] of "both systems are equal", by approximate randomisation.

    The way in which the systems did tag counts as one draw more, so that no p-value is 0.
    """
    rng = np.random.default_rng(seed)
    total_a, total_b = counts_a.sum(0), counts_b.sum(0)
    found = abs(f1(total_a) - f1(total_b))
    num_as_large = np.ones(len(found))
    for size in _pieces(num_draws):
        is_swapped = rng.random((size, len(counts_a))) < 0.5  # [D, S]
        moved = _sums(is_swapped, counts_b - counts_a)
        differences = f1(total_a + moved) - f1(total_b - moved)
        num_as_large += (abs(differences) >= found - SAME).sum(0)
    return num_as_large / (num_draws + 1)


def bootstrap_interval(counts_a, counts_b, num_draws, seed) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of the differences of F1 over samples of the sentences: two arrays [K]."""
    rng = np.random.default_rng(seed)
    num_sentences = len(counts_a)
    differences = []
    for size in _pieces(num_draws):
        drawn = rng.integers(num_sentences, size=(size, num_sentences))
        drawn += num_sentences * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_sentences)
        times = times.reshape(size, num_sentences)  # [D, S]: how often a sentence was drawn
        differences.append(f1(_sums(times, counts_a)) - f1(_sums(times, counts_b)))
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(np.concatenate(differences), [tail, 1 - tail], axis=0)
    return lower, upper


def f1(counts) -> np.ndarray:
    """F1 [...] of counts [..., 3]; 0 where nothing is predicted and nothing is in gold.

    >>> float(f1(np.array([1, 2, 2])))
    0.5
    """
    correct, predicted, gold = np.moveaxis(counts, -1, 0)
    return 2 * correct / np.maximum(predicted + gold, 1)


def _pieces(num_draws):
    sizes = [DRAWS_AT_ONCE] * (num_draws // DRAWS_AT_ONCE)
    return [*sizes, num_draws % DRAWS_AT_ONCE] if num_draws % DRAWS_AT_ONCE else sizes


def _sums(weights, counts):
    """The counts [D, K, 3] of weighted sentences, from weights [D, S]."""
    # whole numbers far below 2**53: exact as floats, whose matrix product is the fast one
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (weights.astype(np.float64) @ flat).reshape(-1, *counts.shape[1:])
