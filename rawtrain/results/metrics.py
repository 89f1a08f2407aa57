"""Scores of predicted tags: what the log, the result files and the table on the terminal show.

An entity counts as found when its first word, its last word and its type are right. seqeval itself
takes seconds for 10,000 sentences; here entities are found on arrays of label ids in milliseconds
(entities.py), and the tests hold every number against seqeval's with ==.

Letters for shapes: W words of all sentences, S sentences, B rows, T sub-words, C labels.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rawtrain.results.bootstrap import NUM_DRAWS, Interval
from rawtrain.results.entities import Entities, every_word, find_entities, right_ones


@dataclass(frozen=True)
class TypeScores:
    """Scores of one entity type or one tag; 0.0 where a score is undefined."""

    precision: float
    recall: float
    f1: float
    number: int  # in the gold data


@dataclass(frozen=True)
class EntityScores:
    """Scores of all entities together, where each weighs the same, and of every type."""

    precision: float
    recall: float
    f1: float
    accuracy: float  # of words, those tagged O included
    per_type: dict[str, TypeScores]  # types that gold or prediction have, in alphabetical order


def entity_scores(
    gold: np.ndarray,  # [W]
    predicted: np.ndarray,  # [W]
    label_names: Sequence[str],  # [C]
    sentence_offsets: np.ndarray,  # [S + 1]
) -> EntityScores:
    """Entity-level scores of label ids, one a word, where labels are O, B-TYPE and I-TYPE.

    >>> gold, predicted = np.array([1, 2, 0, 1]), np.array([1, 2, 0, 0])
    >>> entity_scores(gold, predicted, ["O", "B-PER", "I-PER"], np.array([0, 3, 4])).recall
    0.5
    """
    assert gold.shape == predicted.shape
    pair = [find_entities(labels, label_names, sentence_offsets) for labels in (gold, predicted)]
    return scores_of(*pair, _ratio(np.sum(gold == predicted), len(gold)))


def tag_scores(
    gold: np.ndarray,  # [W]
    predicted: np.ndarray,  # [W]
    label_names: Sequence[str],  # [C]
) -> EntityScores:
    """Scores where each word is a unit and no tag is special, as in part-of-speech tagging.

    Precision, recall and F1 of all tags together are then the accuracy.
    """
    assert gold.shape == predicted.shape
    pair = [every_word(labels, label_names) for labels in (gold, predicted)]
    return scores_of(*pair, _ratio(np.sum(gold == predicted), len(gold)))


def scores_of(gold: Entities, found: Entities, accuracy: float) -> EntityScores:
    """All scores of the entities that were found, beside those that there are."""
    kinds = (gold.type[right_ones(gold, found)], found.type, gold.type)
    counts = [np.bincount(kind, minlength=len(gold.types)).tolist() for kind in kinds]
    per_type = {
        name: TypeScores(*_precision_recall_f1(*row), row[2])
        for name, *row in zip(gold.types, *counts, strict=True)
        if row[1] or row[2]
    }
    return EntityScores(*_precision_recall_f1(*map(sum, counts)), accuracy, per_type)


def macro_average(scores: EntityScores) -> TypeScores:
    """The mean over types, in which a rare type weighs as much as a frequent one."""
    rows = scores.per_type.values()
    if not rows:  # seqeval says NaN here, which JSON cannot hold
        return TypeScores(0.0, 0.0, 0.0, 0)
    return TypeScores(  # np.mean and sum() differ in the last bit, and seqeval takes the former
        float(np.mean([row.precision for row in rows])),
        float(np.mean([row.recall for row in rows])),
        float(np.mean([row.f1 for row in rows])),
        sum(row.number for row in rows),
    )


def score_dict(
    scores: EntityScores, return_entity_level_metrics: bool = False
) -> dict[str, float | int]:
    """The scores under the keys of run_ner.py, without their prefix "eval_" or "predict_".

    As there, the flag adds those of each type and puts "overall_" before those of all types.
    """
    overall = {key: getattr(scores, key) for key in ("precision", "recall", "f1", "accuracy")}
    if not return_entity_level_metrics:
        return overall
    rows = scores.per_type.items()
    per_type = {f"{name}_{key}": value for name, row in rows for key, value in vars(row).items()}
    return per_type | {f"overall_{key}": value for key, value in overall.items()}


def format_scores(
    scores: EntityScores,
    baseline: EntityScores | None = None,
    f1_interval: Interval | None = None,
) -> str:
    """A table of the types for the terminal, at most 80 columns wide.

    "in gold" is the number of entities that there are to find; seqeval calls it support.
    """
    rows = table_rows(scores)
    baseline_rows = dict(table_rows(baseline)) if baseline else {}
    width = min(32, max(len(name) for name, _ in rows))
    beside = f"{'baseline F1':>13}" if baseline else ""
    lines = [f"{'type':<{width}}{'precision':>11}{'recall':>8}{'F1':>7}{beside}{'in gold':>9}"]
    for name, row in rows:
        if baseline:  # it may lack a type that only the model predicts
            f1 = f"{baseline_rows[name].f1:.3f}" if name in baseline_rows else "-"
            beside = f"{f1:>13}"
        short = name if len(name) <= width else name[: width - 1] + "…"
        numbers = f"{row.precision:>11.3f}{row.recall:>8.3f}{row.f1:>7.3f}"
        lines.append(f"{short:<{width}}{numbers}{beside}{row.number:>9}")
    lines.insert(-2, "")  # before the two summary rows
    against = f" (baseline {baseline.accuracy:.3f})" if baseline else ""
    lines += ["", f"word accuracy {scores.accuracy:.3f}{against}"]
    if f1_interval:
        lines.append(
            f"overall F1: 95 % interval {f1_interval.low:.3f} to {f1_interval.high:.3f}"
            f" ({NUM_DRAWS:,} bootstrap draws of the sentences)"
        )
    return "\n".join(lines)


def table_rows(scores: EntityScores) -> list[tuple[str, TypeScores]]:
    """The types with their scores, then all together, and the mean over types."""
    macro = macro_average(scores)
    overall = TypeScores(scores.precision, scores.recall, scores.f1, macro.number)
    return [*scores.per_type.items(), ("overall", overall), ("macro average", macro)]


def majority_baseline(
    train_words: Iterable[Sequence[str]],
    train_tags: Iterable[Sequence[str]],
    words: Iterable[Sequence[str]],
) -> list[list[str]]:
    """Tags for the sentences in `words`: each word's most frequent one in training.

    Of equally frequent tags it is the one seen first; a word never seen is O.

    >>> majority_baseline([["to", "Bonn"]], [["O", "B-LOC"]], [["Bonn", "am", "Rhein"]])
    [['B-LOC', 'O', 'O']]
    """
    counts = defaultdict(Counter)
    for sentence, tags in zip(train_words, train_tags, strict=True):
        for word, tag in zip(sentence, tags, strict=True):
            counts[word][tag] += 1
    majority = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    return [[majority.get(word, "O") for word in sentence] for sentence in words]


def align_predictions(
    predictions,  # [B, T, C] logits or [B, T] ids
    label_ids,  # [B, T], -100 where nothing is to be scored
    index2tag: Mapping[int, str] | Sequence[str],
) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and gold tags of the scored positions, row by row, in the form seqeval takes.

    Arrays, tensors of any device and nested lists are taken. The name, the order of arguments and
    results are those of *Natural Language Processing with Transformers*, chapter 4, where
    index2tag is a global variable.

    >>> align_predictions([[1, 2, 0]], [[-100, 1, 0]], ["O", "B-PER", "I-PER"])
    ([['I-PER', 'O']], [['B-PER', 'O']])
    """
    predictions, label_ids = (
        values if hasattr(values, "ndim") else np.asarray(values)
        for values in (predictions, label_ids)
    )
    if predictions.ndim == 3:
        predictions = predictions.argmax(-1)
    if predictions.shape != label_ids.shape:
        raise ValueError(
            f"predictions of shape {tuple(predictions.shape)} do not fit label_ids of shape"
            f" {tuple(label_ids.shape)}: expected logits (B, T, C) or ids (B, T) beside (B, T)"
        )
    preds_list, labels_list = [], []
    for row, labels in zip(predictions.tolist(), label_ids.tolist(), strict=True):
        scored = [(p, g) for p, g in zip(row, labels, strict=True) if g != -100]
        preds_list.append([index2tag[p] for p, _ in scored])
        labels_list.append([index2tag[g] for _, g in scored])
    return preds_list, labels_list


def _precision_recall_f1(num_correct, num_found, num_gold):
    precision, recall = _ratio(num_correct, num_found), _ratio(num_correct, num_gold)
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def _ratio(part, whole):
    return float(part / whole) if whole else 0.0
