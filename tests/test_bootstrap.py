"""rawtrain.results.bootstrap: the intervals are those of a slow bootstrap with the same draws."""

from itertools import pairwise

import numpy as np
import pytest
from seqeval.metrics import f1_score
from test_metrics import MANY, PER

from rawtrain.results import bootstrap
from rawtrain.results.bootstrap import f1_intervals
from rawtrain.results.entities import find_entities


def random_split(num_sentences, names, seed=0):
    """Gold and predicted ids, and offsets; about two thirds of the labels are right."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *rng.integers(1, 12, num_sentences)])
    gold = rng.integers(0, len(names), offsets[-1]) * (rng.random(offsets[-1]) < 0.6)
    other = rng.integers(0, len(names), offsets[-1])
    return gold, np.where(rng.random(len(gold)) < 0.7, gold, other), offsets


def intervals(gold, predicted, offsets, names, **options):
    both = [find_entities(labels, names, offsets) for labels in (gold, predicted)]
    return f1_intervals(*both, offsets, **options)


def of_type(tags, name):
    return [tag if tag[2:] == name else "O" for tag in tags]


def test_intervals_are_those_of_seqeval_on_the_same_draws(monkeypatch):
    monkeypatch.setattr(bootstrap, "NUM_DRAWS", 40)
    gold, predicted, offsets = random_split(30, MANY)
    found = intervals(gold, predicted, offsets, MANY, seed=3)

    tags = [
        [[MANY[i] for i in labels[a:b]] for a, b in pairwise(offsets)]
        for labels in (gold, predicted)
    ]
    rng = np.random.default_rng(3)
    draws = [rng.integers(30, size=30).tolist() for _ in range(40)]
    assert set(found) == {*"ABCDEFGHIXYZ", None}
    for name, interval in found.items():
        scores = []
        for draw in draws:
            sides = [[side[i] for i in draw] for side in tags]
            if name is not None:
                sides = [[of_type(sentence, name) for sentence in side] for side in sides]
            scores.append(f1_score(*sides, zero_division=0))
        # seqeval takes F1 from precision and recall, and rounds thrice more
        assert interval == pytest.approx(np.quantile(scores, [0.025, 0.975]), rel=1e-15)


def test_the_interval_holds_the_score_and_narrows_with_more_sentences():
    widths = []
    for num_sentences in (100, 10_000):
        gold, predicted, offsets = random_split(num_sentences, PER)
        low, high = intervals(gold, predicted, offsets, PER)[None]
        both = [find_entities(labels, PER, offsets) for labels in (gold, predicted)]
        f1 = bootstrap.f1_of(bootstrap.counts_by_sentence(*both, offsets).sum((0, 1)))
        assert low < f1 < high
        widths.append(high - low)
    # A hundred times the sentences: a tenth of the width, give or take what 1,000 draws leave open.
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.25)


def test_the_interval_of_nothing_and_of_a_perfect_score_has_no_width():
    offsets = np.arange(0, 61, 3)
    nothing, named = np.zeros(60, int), np.ones(60, int)
    assert intervals(nothing, nothing, offsets, PER) == {"PER": (0, 0), None: (0, 0)}
    assert intervals(named, named, offsets, PER) == {"PER": (1, 1), None: (1, 1)}


def test_nineteen_sentences_are_too_few_to_draw_from():
    labels = np.ones(60, int)
    assert intervals(labels, labels, np.arange(0, 61, 3), PER)
    assert intervals(labels[:57], labels[:57], np.arange(0, 58, 3), PER) == {}


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    split = random_split(50, PER)
    first, again, other = (intervals(*split, PER, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
