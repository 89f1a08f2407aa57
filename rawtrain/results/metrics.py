"""Scores of predicted tags: what the log, the result files and the table on the terminal show.

An entity counts as found if its first word, its last word and its type are right. seqeval takes
seconds for 10,000 sentences. Here entities are found in arrays of label ids (entities.py), in
milliseconds, and test_metrics.py compares every score with seqeval's by ==.

B rows, T sub-words, C labels.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rawtrain.results.bootstrap import NUM_DRAWS, Interval
from rawtrain.results.entities import Entities, right_ones
from rawtrain.results.terminal import MOST_TYPES, cut, others, text_table

Texts = Iterable[Sequence[str]]  # the words or the tags of sentences


class TypeScores(NamedTuple):
    """Scores of one entity type, one tag, or all of them; 0.0 where a score is undefined."""

    precision: float
    recall: float
    f1: float
    number: int  # in the gold data


@dataclass(frozen=True)
class EntityScores:
    overall: TypeScores  # of all entities together, where each weighs the same
    accuracy: float  # of words, those tagged O included
    per_type: dict[str, TypeScores]  # types that gold or prediction have, in alphabetical order


def entity_scores(gold: Entities, found: Entities, accuracy: float) -> EntityScores:
    """All scores of predicted entities beside the gold ones; `accuracy` is that of the words.

    If every word is an entity, as with part-of-speech tags, precision, recall and F1 of all types
    together are the accuracy.
    """
    groups = (gold.type[right_ones(gold, found)], found.type, gold.type)
    counts = [np.bincount(types, minlength=len(gold.types)).tolist() for types in groups]
    rows = zip(gold.types, *counts, strict=True)
    per_type = {name: type_scores(*row) for name, *row in rows if any(row)}
    return EntityScores(type_scores(*map(sum, counts)), accuracy, per_type)


def macro_average(scores: EntityScores) -> TypeScores:
    """The mean over types, in which a rare type weighs as much as a frequent one."""
    rows = scores.per_type.values()
    if not rows:  # seqeval says NaN here, which JSON cannot hold
        return TypeScores(0.0, 0.0, 0.0, 0)
    # as seqeval, to the last bit
    precision, recall, f1, _ = (float(np.mean(column)) for column in zip(*rows, strict=True))
    return TypeScores(precision, recall, f1, scores.overall.number)


def score_dict(scores: EntityScores, return_entity_level_metrics: bool = False) -> dict:
    """The scores under the keys of run_ner.py, without their prefix "eval_" or "predict_".

    As there, the flag adds those of each type and names those of all types with "overall_"; here
    they keep their own names too.
    """
    overall = scores.overall._asdict() | {"accuracy": scores.accuracy}
    del overall["number"]
    if not return_entity_level_metrics:
        return overall
    rows = [*((name, row._asdict()) for name, row in scores.per_type.items()), ("overall", overall)]
    return overall | {f"{name}_{key}": value for name, row in rows for key, value in row.items()}


def format_scores(
    scores: EntityScores, baseline: EntityScores | None = None, f1_interval: Interval | None = None
) -> str:
    """A table of the types for the terminal, at most 80 columns wide.

    "in gold" is the number of entities that there are to find; seqeval calls it support.
    """
    rows = table_rows(scores, baseline)
    rare = sorted(rows[:-2], key=lambda row: row[-1], reverse=True)[MOST_TYPES:]
    cells = []
    for name, *numbers, beside, number in [row for row in rows if row not in rare]:
        if baseline:
            numbers.append(beside)
        shown = ["-" if score is None else f"{score:.3f}" for score in numbers]
        cells.append([cut(name), *shown, str(number)])
    beside = ["baseline F1"] if baseline else []
    lines = text_table(["type", "precision", "recall", "F1", *beside, "in gold"], cells)
    lines[-2:-2] = [*others(rare), ""]  # before the two summary rows
    against = f" (baseline {baseline.accuracy:.3f})" if baseline else ""
    lines += ["", f"word accuracy {scores.accuracy:.3f}{against}"]
    if f1_interval:
        low, high = f1_interval
        draws = f"{NUM_DRAWS:,} bootstrap draws of the sentences"
        lines.append(f"overall F1: 95 % interval {low:.3f} to {high:.3f} ({draws})")
    return "\n".join(lines)


def table_rows(scores: EntityScores, baseline: EntityScores | None = None) -> list[tuple]:
    """Name, precision, recall, F1, the baseline's F1 (None if it has none) and number in the gold
    data of each type, of all types together, and of the mean over types.
    """
    beside = {row[0]: row[3] for row in table_rows(baseline)} if baseline else {}
    summary = [("overall", scores.overall), ("macro average", macro_average(scores))]
    return [
        (name, *row[:3], beside.get(name), row.number)
        for name, row in [*scores.per_type.items(), *summary]
    ]


def majority_baseline(train_words: Texts, train_tags: Texts, words: Texts) -> list[list[str]]:
    """Tags for the sentences in `words`: each word's most frequent one in training.

    Of equally frequent tags it is the one seen first; a word never seen is O.
    """
    counts = defaultdict(Counter)
    for sentence, tags in zip(train_words, train_tags, strict=True):
        for word, tag in zip(sentence, tags, strict=True):
            counts[word][tag] += 1
    majority = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    return [[majority.get(word, "O") for word in sentence] for sentence in words]


def type_scores(num_right: int, num_found: int, num_gold: int) -> TypeScores:
    """The scores of entities from how many were found and right, found, and there to be found."""
    precision = num_right / num_found if num_found else 0.0
    recall = num_right / num_gold if num_gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if num_right else 0.0
    return TypeScores(precision, recall, f1, num_gold)
