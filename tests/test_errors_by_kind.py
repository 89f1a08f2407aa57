"""rawtrain.results.errors_by_kind: one kind for each entity, beside a definition in loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from seqeval.metrics.sequence_labeling import get_entities
from test_metrics import HYPHENS, MANY, PER, as_arrays, sentences_of

from rawtrain.results.entities import every_word, find_entities
from rawtrain.results.errors_by_kind import confusion_of


def entities_of(sentences, names):
    gold, predicted, offsets = as_arrays(sentences, names)
    return [find_entities(labels, names, offsets) for labels in (gold, predicted)]


def spans(sentences):
    """seqeval's gold and predicted entities, as (type, first, last) through all sentences."""
    both, start = ([], []), 0
    for sentence in sentences:
        for tags, found in zip(zip(*sentence, strict=True), both, strict=False):
            found += [(kind, start + a, start + b) for kind, a, b in get_entities(list(tags))]
        start += len(sentence)
    return both


def brute_force_kinds(gold, found):
    """The definition of errors_by_kind.py, step by step over all pairs of spans."""
    kinds = [dict.fromkeys(gold, "missed"), dict.fromkeys(found, "spurious")]
    pairs = []

    def words(span):
        return set(range(span[1], span[2] + 1))

    for may_pair in (
        lambda a, b: a[1:] == b[1:],
        lambda a, b: a[0] == b[0] and words(a) & words(b),
        lambda a, b: words(a) & words(b),
    ):
        for a in gold:
            for b in found:
                if all(a != c and b != d for c, d in pairs) and may_pair(a, b):
                    pairs.append((a, b))
    for a, b in pairs:
        kind = "type" if a[0] != b[0] else "correct" if a == b else "boundary"
        kinds[0][a] = kinds[1][b] = kind
    return [list(kind.values()) for kind in kinds], pairs


@pytest.mark.parametrize("names", [PER, HYPHENS, MANY], ids=["one type", "hyphens", "many types"])
def test_kinds_and_confusion_are_those_of_the_definition(names):
    @settings(max_examples=400)
    @given(sentences_of(names))
    def check(sentences):
        gold, found = spans(sentences)
        expected, pairs = brute_force_kinds(gold, found)
        confusion = confusion_of(*entities_of(sentences, names))
        assert [confusion.gold_kinds, confusion.found_kinds] == expected
        partner = dict(pairs)
        cells = Counter()
        for span, kind in zip(gold, expected[0], strict=True):
            column = partner[span][0] if kind in ("correct", "type") else (kind,)
            cells[span[0], column] += 1
        for span, kind in zip(found, expected[1], strict=True):
            cells["spurious", span[0]] += kind == "spurious"
        rows, columns = (
            [*confusion.types, "spurious"],
            [*confusion.types, ("boundary",), ("missed",)],
        )
        counts = [[cells[row, column] for column in columns] for row in rows]
        assert confusion.counts.tolist() == counts
        assert sum(cells.values()) == confusion.counts.sum()

    check()


@given(sentences_of(MANY))
@settings(max_examples=300)
def test_the_sums_are_seqevals_true_and_false_positives_and_negatives(sentences):
    gold, found = spans(sentences)
    confusion = confusion_of(*entities_of(sentences, MANY))
    counts, num_types, kinds = confusion.counts, len(confusion.types), confusion.kinds
    right = Counter(kind for kind, *_ in set(gold) & set(found))
    in_gold, in_found = (Counter(kind for kind, *_ in side) for side in (gold, found))
    for number, name in enumerate(confusion.types):
        boundary = counts[number, num_types]  # an entity on both sides
        assert counts[number, number] == right[name]
        assert counts[number].sum() == in_gold[name]
        assert counts[:, number].sum() + boundary == in_found[name]
    true, false = right.total(), kinds["boundary"] + kinds["type"]
    assert kinds["correct"] == true
    assert false + kinds["missed"] == len(gold) - true
    assert false + kinds["spurious"] == len(found) - true


CASES = {  # gold and predicted tags -> kinds of the gold entities, of the predicted ones
    "all right": ("B-A I-A O", "B-A I-A O", "correct", "correct"),
    "too long": ("B-A O O", "B-A I-A O", "boundary", "boundary"),
    "another type": ("B-A I-A O", "B-B I-B O", "type", "type"),
    "another type and too short": ("B-A I-A O", "B-B O O", "type", "type"),
    "one broken in two": ("B-A I-A O", "B-A B-A O", "boundary", "boundary spurious"),
    "two joined": ("B-A B-A O", "B-A I-A O", "boundary missed", "boundary"),
    "its own type is taken, not the first": ("B-A I-A", "B-B B-A", "boundary", "spurious boundary"),
    "side by side": ("B-A O O", "O B-A O", "missed", "spurious"),
}


@pytest.mark.parametrize(("gold", "found", *"ab"), CASES.values(), ids=CASES.keys())
def test_each_entity_has_one_kind(gold, found, a, b):
    names = ["O", "B-A", "I-A", "B-B", "I-B"]
    sentence = list(zip(gold.split(), found.split(), strict=True))
    confusion = confusion_of(*entities_of([sentence], names))
    assert [" ".join(side) for side in (confusion.gold_kinds, confusion.found_kinds)] == [a, b]


def test_where_every_word_has_a_tag_a_mistake_is_one_of_type():
    names = ["VERB", "NOUN", "O"]
    gold, predicted = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1])
    confusion = confusion_of(
        *(every_word(of, names, np.arange(len(gold))) for of in (gold, predicted))
    )
    assert confusion.types == ["NOUN", "O", "VERB"]
    assert confusion.counts[:-1, :-2].tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert confusion.kinds == {"correct": 2, "boundary": 0, "type": 2, "missed": 0, "spurious": 0}
