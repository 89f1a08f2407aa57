"""rawtrain.results.metrics: every score beside seqeval's, or sklearn's for plain tags."""

import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from sklearn.metrics import classification_report as sklearn_report

from rawtrain.results import metrics
from rawtrain.results.entities import every_word, find_entities
from rawtrain.results.metrics import (
    EntityScores,
    TypeScores,
    format_scores,
    macro_average,
    majority_baseline,
    score_dict,
)

PER = ["O", "B-PER", "I-PER"]
HYPHENS = ["O", "B-real-estate", "I-real-estate", "B-real", "I-real", "B--", "I--", "B", "I"]
MANY = ["O", *[f"{prefix}-{name}" for name in "ZYXABCDEFGHI" for prefix in "IB"]]


def sentences_of(labels):
    """Sentences of (gold, predicted) tags, any after any; about half the predictions are right."""
    pairs = [(gold, predicted) for gold in labels for predicted in labels]
    pairs += [(gold, gold) for gold in labels] * len(labels)
    border = [None] * (len(pairs) // 4)
    return st.lists(st.sampled_from(pairs + border), max_size=24).map(split_at_none)


def split_at_none(pairs):
    borders = [i for i, pair in enumerate(pairs) if pair is None]
    return [pairs[a + 1 : b] for a, b in pairwise([-1, *borders, len(pairs)])]


def as_arrays(sentences, names):
    """What the scorers take: gold ids, predicted ids, sentence offsets."""
    pairs = [(names.index(g), names.index(p)) for sentence in sentences for g, p in sentence]
    gold, predicted = np.array(pairs, int).reshape(-1, 2).T
    return gold, predicted, np.cumsum([0, *map(len, sentences)])


def entity_scores(gold, predicted, names, offsets):
    both = [find_entities(labels, names, offsets) for labels in (gold, predicted)]
    return metrics.entity_scores(*both, float(np.mean(gold == predicted)) if len(gold) else 0.0)


def tag_scores(gold, predicted, names):
    both = [every_word(labels, names, np.arange(len(labels))) for labels in (gold, predicted)]
    return metrics.entity_scores(*both, float(np.mean(gold == predicted)))


def seqeval_scores(sentences):
    """seqeval's EntityScores and its macro average."""
    gold = [[g for g, _ in sentence] for sentence in sentences]
    predicted = [[p for _, p in sentence] for sentence in sentences]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # macro average of no types
        report = seqeval.classification_report(gold, predicted, output_dict=True, zero_division=0)
    rows = {name: TypeScores(*row.values()) for name, row in report.items()}
    micro, macro, _ = (rows.pop(f"{name} avg") for name in ("micro", "macro", "weighted"))
    accuracy = seqeval.accuracy_score(gold, predicted) if any(gold) else 0.0  # it would divide by 0
    return EntityScores(micro, accuracy, rows), macro


@pytest.mark.parametrize("names", [PER, HYPHENS, MANY], ids=["one type", "hyphens", "many types"])
def test_entity_scores_are_seqevals_to_the_last_bit_for_any_labels(names):
    @settings(max_examples=700)
    @given(sentences_of(names))
    def check(sentences):
        gold, predicted, offsets = as_arrays(sentences, names)
        scores = entity_scores(gold, predicted, names, offsets)
        expected, macro = seqeval_scores(sentences)
        assert scores == expected
        assert list(scores.per_type) == list(expected.per_type)
        if scores.per_type:
            assert macro_average(scores) == macro

    check()


CASES = {  # sentences of gold and predicted tags -> correct, found, gold
    "an orphan I- begins an entity": ([("I-PER I-PER O", "B-PER I-PER O")], (1, 1, 1)),
    "a B- divides": ([("B-PER B-PER", "B-PER I-PER")], (0, 1, 2)),
    "another type divides": ([("B-PER I-LOC", "B-PER I-PER")], (0, 1, 2)),
    "a sentence border divides": ([("B-PER", "B-PER"), ("I-PER", "I-PER")], (2, 2, 2)),
    "a border off by one is wrong": ([("B-PER I-PER O", "B-PER I-PER I-PER")], (0, 1, 1)),
    "the right borders of another type are wrong": ([("B-PER O", "B-LOC O")], (0, 1, 1)),
    "nothing predicted": ([("B-PER O", "O O"), ("", "")], (0, 0, 1)),
    "nothing to find": ([("O O", "O I-LOC")], (0, 1, 0)),
    "all O": ([("O O", "O O")], (0, 0, 0)),
    "no sentence": ([], (0, 0, 0)),
}


@pytest.mark.parametrize(("lines", "counts"), CASES.values(), ids=CASES.keys())
def test_an_entity_is_right_with_both_borders_and_its_type(lines, counts):
    names = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    sentences = [list(zip(g.split(), p.split(), strict=True)) for g, p in lines]
    gold, predicted, offsets = as_arrays(sentences, names)
    scores = entity_scores(gold, predicted, names, offsets)
    correct, found, in_gold = counts
    assert scores.overall.precision == (correct / found if found else 0.0)
    assert scores.overall.recall == (correct / in_gold if in_gold else 0.0)
    assert macro_average(scores).number == in_gold
    if sentences:
        tags = [[[pair[i] for pair in sentence] for sentence in sentences] for i in (0, 1)]
        assert scores.overall.precision == seqeval.precision_score(*tags, zero_division=0)
        assert scores.overall.recall == seqeval.recall_score(*tags, zero_division=0)
        assert scores.overall.f1 == seqeval.f1_score(*tags, zero_division=0)


def test_the_average_over_no_types_is_0_without_a_warning():
    scores = entity_scores(np.array([0]), np.array([0]), PER, np.array([0, 1]))
    assert macro_average(scores) == TypeScores(0.0, 0.0, 0.0, 0)


def test_labels_that_are_not_iob2_are_refused_by_name():
    nothing = np.array([], int)
    with pytest.raises(ValueError, match=r"'E-PER', 'NOUN', 'B-' are none of O.*convert.*pos"):
        entity_scores(nothing, nothing, ["O", "B-PER", "E-PER", "NOUN", "B-"], np.array([0]))


def test_an_ignored_label_among_the_words_is_no_label_to_score():
    for scorer in (tag_scores, lambda *args: entity_scores(*args, np.array([0, 2]))):
        with pytest.raises(AssertionError):
            scorer(np.array([0, -100]), np.array([0, 0]), PER)


@pytest.mark.parametrize("num_words", [1, 5, 50, 500])
def test_tag_scores_are_sklearns(num_words):
    names = ["VERB", "O", "NOUN", "ADJ", "B-X"]
    gold, predicted = np.random.default_rng(num_words).integers(0, len(names), (2, num_words))
    scores = tag_scores(gold, predicted, names)
    tags = [[names[i] for i in ids] for ids in (gold, predicted)]
    report = sklearn_report(*tags, output_dict=True, zero_division=0)
    accuracy, macro = report.pop("accuracy"), report.pop("macro avg")
    del report["weighted avg"]

    def same(row):  # sklearn takes F1 from counts, and rounds once less
        return pytest.approx(list(row.values()), rel=5e-16, abs=0)

    assert scores.accuracy == scores.overall.precision == scores.overall.recall == accuracy
    assert scores.overall.f1 == pytest.approx(accuracy, rel=5e-16, abs=0)
    assert list(macro_average(scores)) == same(macro)
    assert list(scores.per_type) == list(report)
    for name, row in scores.per_type.items():
        assert list(row) == same(report[name])


def example_scores():
    sentences = [
        [("B-PER", "B-PER"), ("I-PER", "I-PER"), ("O", "B-LOC")],
        [("B-real-estate", "O"), ("O", "O"), ("B-PER", "B-real-estate")],
    ]
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-real-estate", "I-real-estate"]
    gold, predicted, offsets = as_arrays(sentences, names)
    baseline = np.where(predicted == names.index("B-LOC"), 0, predicted)
    return [entity_scores(gold, ids, names, offsets) for ids in (predicted, baseline)]


def test_score_keys_are_those_of_run_ner():
    scores, _ = example_scores()
    assert list(score_dict(scores)) == ["precision", "recall", "f1", "accuracy"]
    by_type = score_dict(scores, return_entity_level_metrics=True)
    assert " ".join(by_type) == (
        "precision recall f1 accuracy"
        " LOC_precision LOC_recall LOC_f1 LOC_number PER_precision PER_recall PER_f1 PER_number"
        " real-estate_precision real-estate_recall real-estate_f1 real-estate_number"
        " overall_precision overall_recall overall_f1 overall_accuracy"
    )
    assert (by_type["PER_recall"], by_type["PER_number"]) == (0.5, 2)
    assert (by_type["overall_f1"], by_type["overall_accuracy"]) == (1 / 3, 0.5)


def test_scores_are_plain_numbers_that_json_keeps():
    for scores in (*example_scores(), tag_scores(np.array([0, 1]), np.array([0, 0]), ["A", "B"])):
        values = score_dict(scores, return_entity_level_metrics=True)
        assert json.loads(json.dumps(values)) == values
        assert {type(value) for value in values.values()} == {float, int}
        assert {type(value) for value in macro_average(scores)} == {float, int}


def test_the_table_shows_every_type_and_the_baseline_beside_it():
    scores, baseline = example_scores()
    assert format_scores(scores, baseline).splitlines() == [
        "type           precision  recall     F1  baseline F1  in gold",
        "LOC                0.000   0.000  0.000            -        0",
        "PER                1.000   0.500  0.667        0.667        2",
        "real-estate        0.000   0.000  0.000        0.000        1",
        "",
        "overall            0.333   0.333  0.333        0.400        3",
        "macro average      0.333   0.167  0.222        0.333        3",
        "",
        "word accuracy 0.500 (baseline 0.667)",
    ]
    assert format_scores(scores).startswith("type           precision  recall     F1  in gold\n")
    assert format_scores(scores).endswith("\n\nword accuracy 0.500")
    assert format_scores(scores, f1_interval=(0.1, 0.25)).endswith(
        "\nword accuracy 0.500"
        "\noverall F1: 95 % interval 0.100 to 0.250 (1,000 bootstrap draws of the sentences)"
    )


@pytest.mark.parametrize("has_baseline", [False, True])
def test_the_table_is_aligned_and_fits_80_columns(has_baseline):
    long_name = "an-entity-type-with-a-name-longer-than-anyone-needs"
    row = TypeScores(1.0, 1.0, 1.0, 123_456_789)
    scores = EntityScores(row, 1.0, {"A": row, long_name: row})
    lines = format_scores(scores, scores if has_baseline else None).splitlines()
    widths = {len(line) for line in lines[:-1] if line}
    assert len(widths) == 1 and max(widths) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert lines[2].startswith("an-entity-type-…n-anyone-needs")


def test_the_baseline_takes_the_most_frequent_tag_then_the_first_seen():
    words = [["Bonn", "May", "May"], ["Bonn", "Paris", "Bonn", "Paris"]]
    tags = [["B-ORG", "O", "B-PER"], ["B-LOC", "B-LOC", "B-LOC", "B-PER"]]
    asked = [["Bonn", "May", "Paris", "bonn"], []]
    assert majority_baseline(words, tags, asked) == [["B-LOC", "O", "B-LOC", "O"], []]
    with pytest.raises(ValueError):
        majority_baseline([["two", "words"]], [["O"]], [])
