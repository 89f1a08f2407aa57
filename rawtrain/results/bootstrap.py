"""How sure a score is: intervals from scoring the same sentences drawn again with replacement.

The sentences of the data are a sample of those that there might have been. Other samples of as many
are drawn from them, and the interval of a score holds its middle 95 % over these (the percentile
bootstrap of Efron and Tibshirani, 1993). Sentences are drawn, not entities, because mistakes in
one sentence go together. What it does not tell is how another seed of the training would do.

Letters for shapes: S sentences, C types, D draws.
"""

from typing import NamedTuple

import numpy as np

from rawtrain.results.entities import Entities, right_ones

NUM_DRAWS, LEVEL = 1000, 0.95
LARGEST_CHUNK = 4_000_000  # drawn sentence numbers at once: 32 MB


class Interval(NamedTuple):
    low: float
    high: float


def f1_intervals(gold: Entities, found: Entities, sentence_offsets, seed=0) -> dict[str, Interval]:
    """The interval of the F1 of each type, and under None of all types together.

    The same data and seed give the same intervals.
    """
    counts = counts_by_sentence(gold, found, sentence_offsets)
    sums = resampled(counts, NUM_DRAWS, seed)  # [D, C, 2]
    per_type, overall = f1_of(sums), f1_of(sums.sum(1))
    names = [*gold.types, None]
    tail = (1 - LEVEL) / 2
    bounds = np.quantile(np.column_stack([per_type, overall]), [tail, 1 - tail], axis=0)
    return {name: Interval(*pair) for name, pair in zip(names, bounds.T.tolist(), strict=True)}


def counts_by_sentence(gold: Entities, found: Entities, sentence_offsets) -> np.ndarray:
    """Of each sentence and type [S, C, 2], the entities found rightly, and those found and gold."""
    num_sentences, num_types = len(sentence_offsets) - 1, len(gold.types)

    def count(entities, which=slice(None)):
        sentence = np.searchsorted(sentence_offsets, entities.first[which], side="right") - 1
        cell = sentence * num_types + entities.type[which]
        counts = np.bincount(cell, minlength=num_sentences * num_types)
        return counts.reshape(num_sentences, num_types)

    right = count(gold, right_ones(gold, found))
    return np.stack([right, count(gold) + count(found)], axis=-1)


def resampled(counts: np.ndarray, num_draws: int, seed: int) -> np.ndarray:
    """The sums [D, C, 2] of `counts` [S, C, 2] over S sentences drawn with replacement, D times."""
    num_sentences, *shape = counts.shape
    rng = np.random.default_rng(seed)
    flat = counts.reshape(num_sentences, -1).astype(float)  # float64: exact, and fast to multiply
    sums = []
    chunk = max(1, LARGEST_CHUNK // max(num_sentences, 1))
    for start in range(0, num_draws, chunk):
        size = (min(chunk, num_draws - start), num_sentences)
        drawn = rng.integers(num_sentences, size=size)
        times = [np.bincount(row, minlength=num_sentences) for row in drawn]  # of each sentence
        sums.append(np.array(times, float) @ flat)
    return np.concatenate(sums).reshape(num_draws, *shape)


def f1_of(sums: np.ndarray) -> np.ndarray:
    """F1 from sums [..., 2]: twice the right ones over those found and gold; 0 of nothing."""
    right, all_of_them = sums[..., 0], sums[..., 1]
    return 2 * right / np.maximum(all_of_them, 1)
