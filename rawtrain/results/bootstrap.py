"""How certain a score is: intervals from scoring the same sentences drawn again with replacement.

As many sentences as there are, a thousand times; the interval of a score holds its middle 95 % over
these draws (the percentile bootstrap of Efron and Tibshirani, 1993). Sentences are drawn and not
entities, because the mistakes in a sentence depend on each other. The interval does not say how
another seed of the training would do.

S sentences, C types, D draws.
"""

from collections.abc import Iterable

import numpy as np

from rawtrain.results.entities import Entities, right_ones

NUM_DRAWS, LEVEL = 1000, 0.95
FEWEST_SENTENCES = 20  # to draw from

Interval = tuple[float, float]  # its lower and its upper end


def f1_intervals(
    gold: Entities, found: Entities, sentence_offsets: np.ndarray, seed: int = 0
) -> dict[str | None, Interval]:
    """The interval of the F1 of each type, and under None that of all types together.

    The same data and seed give the same intervals. Too few sentences give none.
    """
    if len(sentence_offsets) <= FEWEST_SENTENCES:
        return {}
    counts = counts_by_sentence(gold, found, sentence_offsets)
    sums = resampled(counts, NUM_DRAWS, seed)  # [D, C, 2]
    f1 = np.column_stack([f1_of(sums), f1_of(sums.sum(1))])  # of each type, and of all
    tail = (1 - LEVEL) / 2
    bounds = np.quantile(f1, [tail, 1 - tail], axis=0).T.tolist()
    names: list[str | None] = [*gold.types, None]
    return {name: (*pair,) for name, pair in zip(names, bounds, strict=True)}


def counts_by_sentence(gold: Entities, found: Entities, sentence_offsets: np.ndarray) -> np.ndarray:
    """For each sentence and type [S, C, 2]: how many are right, and the sum of found and gold."""
    num_sentences, num_types = len(sentence_offsets) - 1, len(gold.types)

    def count(entities, which=slice(None)):
        sentence = np.searchsorted(sentence_offsets, entities.first[which], side="right") - 1
        cell = sentence * num_types + entities.type[which]
        counts = np.bincount(cell, minlength=num_sentences * num_types)
        return counts.reshape(num_sentences, num_types)

    right = count(gold, right_ones(gold, found))
    return np.stack([right, count(gold) + count(found)], axis=-1)


def resampled(counts: np.ndarray, num_draws: int, seed: int) -> np.ndarray:
    """The sums [D, ...] of `counts` [S, ...] over S sentences drawn with replacement, D times."""
    rng, size = np.random.default_rng(seed), len(counts)
    draws = (rng.integers(size, size=size) for _ in range(num_draws))
    return weighted_sums(counts, (np.bincount(drawn, minlength=size) for drawn in draws))


def weighted_sums(counts: np.ndarray, weights: Iterable[np.ndarray]) -> np.ndarray:
    """The sums [D, ...] of `counts` [S, ...], once for each of the D `weights` [S]."""
    # whole numbers far below 2**53: exact as float64, whose matrix product is the fast one
    flat = counts.reshape(len(counts), -1).astype(float)
    return np.array([(one @ flat).reshape(counts.shape[1:]) for one in weights])


def f1_of(sums: np.ndarray) -> np.ndarray:
    """F1 from sums [..., 2]: twice the right ones over found and gold ones; 0 without any."""
    return 2 * sums[..., 0] / np.maximum(sums[..., 1], 1)
