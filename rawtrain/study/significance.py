"""Is one system better than another? Two tests on counts of entities per sentence.

Approximate randomisation (Noreen 1989; Yeh 2000, "More accurate tests for the statistical
significance of result differences"): if the two systems were equal, it would not matter which of
them tagged a sentence. So their answers are swapped for a random half of the sentences, thousands
of times. The p-value is the share of swaps whose difference of F1 is as large as the one found.

Bootstrap (results/bootstrap.py): sentences are drawn with replacement and both systems are scored
on the same draw. The middle 95 % of the differences are an interval for the difference.

Letters for shapes: S sentences, D draws, K groups of counts (all types together, then each type).
Counts end in an axis of 2, as in results/bootstrap.py: entities found rightly, and found and gold.
"""

from dataclasses import dataclass

import numpy as np

from rawtrain.results.bootstrap import LEVEL, f1_of, resampled, weighted_sums

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
