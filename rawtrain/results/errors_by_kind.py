"""What kind of mistake each wrong entity is: its borders, its type, missed, or spurious.

Gold and predicted entities that overlap are paired, each with one other at most:

1. those with the same first and last word;
2. of the rest, from left to right, a gold entity with the first free one of its own type;
3. of the rest, from left to right, a gold entity with the first free one.

Then every entity, gold or predicted, is counted once:

    correct    a pair of the same borders and type
    boundary   a pair of the same type and different borders
    type       a pair of different types, whatever the borders
    missed     a gold entity without a pair
    spurious   a predicted entity without a pair

So seqeval's TP = correct, FN = boundary + type + missed, FP = boundary + type + spurious.

E entities, C types.
"""

from dataclasses import dataclass

import numpy as np

from rawtrain.results.entities import Entities, same_borders

KINDS = ("correct", "boundary", "type", "missed", "spurious")
CORRECT, BOUNDARY, TYPE, MISSED, SPURIOUS = KINDS


@dataclass(frozen=True)
class Confusion:
    """The gold and predicted entities, counted by type.

    A row of `counts` is a gold type, a column a predicted one. The diagonal holds those of the kind
    "correct"; off it are those of the kind "type". Two more columns hold the gold entities of the
    kinds "boundary" and "missed", one more row the predicted ones of the kind "spurious".
    """

    types: list[str]  # those that gold or prediction have
    counts: np.ndarray  # [C + 1, C + 2]

    @property
    def kinds(self) -> dict[str, int]:
        """How many there are of each kind."""
        num_types = len(self.types)
        square = self.counts[:num_types, :num_types]
        boundary, missed = self.counts[:, num_types:].sum(0)
        correct, spurious = np.trace(square), self.counts[num_types].sum()
        numbers = (correct, boundary, square.sum() - correct, missed, spurious)
        return dict(zip(KINDS, map(int, numbers), strict=True))

    @property
    def row_shares(self) -> np.ndarray:
        """The share of each count in its row; 0 in a row of nothing."""
        return self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)


def pair_entities(gold: Entities, found: Entities) -> np.ndarray:
    """For each gold entity [E] the number of the predicted one that it is paired with, or -1."""
    partner = same_borders(gold, found)
    is_free = ~np.isin(np.arange(len(found)), partner)
    # The predicted entities that overlap a gold one are begin to end, since none overlaps another.
    begin = np.searchsorted(found.last, gold.first)
    end = np.searchsorted(found.first, gold.last, side="right")
    for own_type_alone in (True, False):
        for number in np.flatnonzero((partner < 0) & (begin < end)).tolist():
            fits = is_free[begin[number] : end[number]]
            if own_type_alone:
                fits = fits & (found.type[begin[number] : end[number]] == gold.type[number])
            if fits.any():
                partner[number] = begin[number] + fits.argmax()
                is_free[partner[number]] = False
    return partner


def kinds_of(gold: Entities, found: Entities) -> tuple[list[str], list[str]]:
    """The kind of each gold entity and of each predicted one; a pair has the same kind twice."""
    gold_kinds, found_kinds = [MISSED] * len(gold), [SPURIOUS] * len(found)
    is_same = same_borders(gold, found) >= 0
    for number, other in enumerate(pair_entities(gold, found).tolist()):
        if other >= 0:
            kind = CORRECT if is_same[number] else BOUNDARY
            kind = kind if gold.type[number] == found.type[other] else TYPE
            gold_kinds[number] = found_kinds[other] = kind
    return gold_kinds, found_kinds


def confusion_of(gold: Entities, found: Entities) -> Confusion:
    """The types of the gold entities against those of the predicted ones."""
    num_types, partner = len(gold.types), pair_entities(gold, found)
    is_paired = partner >= 0
    column = np.full(len(gold), num_types + 1)  # missed
    column[is_paired] = found.type[partner[is_paired]]
    column[(column == gold.type) & (same_borders(gold, found) < 0)] = num_types  # boundary
    counts = np.zeros((num_types + 1, num_types + 2), np.int64)
    np.add.at(counts, (gold.type, column), 1)
    np.add.at(counts[num_types], np.delete(found.type, partner[is_paired]), 1)  # spurious
    kept = np.union1d(gold.type, found.type).tolist()
    rows, columns = [*kept, num_types], [*kept, num_types, num_types + 1]
    return Confusion([gold.types[number] for number in kept], counts[np.ix_(rows, columns)])
