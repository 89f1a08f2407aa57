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
    """The gold and predicted entities: the kind of each, and their numbers by type.

    A row of `counts` is a gold type, a column a predicted one. The diagonal holds those of the kind
    "correct"; off it are those of the kind "type". Two more columns hold the gold entities of the
    kinds "boundary" and "missed", one more row the predicted ones of the kind "spurious".
    """

    gold_kinds: list[str]  # of each gold entity
    found_kinds: list[str]  # of each predicted one; a pair has the same kind twice
    types: list[str]  # those that gold or prediction have
    counts: np.ndarray  # [C + 1, C + 2]

    @property
    def kinds(self) -> dict[str, int]:
        """How many there are of each kind."""
        numbers = {kind: self.gold_kinds.count(kind) for kind in KINDS}
        return numbers | {SPURIOUS: self.found_kinds.count(SPURIOUS)}

    def most_frequent(self, number: int) -> list[int]:
        """The places in `types` of those that gold and prediction have most, in order."""
        totals = self.counts[:-1].sum(1) + self.counts[:, :-2].sum(0)
        return sorted(np.argsort(-totals, kind="stable")[:number].tolist())


def confusion_of(gold: Entities, found: Entities) -> Confusion:
    num_types, partner = len(gold.types), pair_entities(gold, found)
    is_paired = partner >= 0
    column = np.full(len(gold), num_types + 1)  # missed
    column[is_paired] = found.type[partner[is_paired]]
    column[(column == gold.type) & (same_borders(gold, found) < 0)] = num_types  # boundary
    counts = np.zeros((num_types + 1, num_types + 2), np.int64)
    np.add.at(counts, (gold.type, column), 1)
    np.add.at(counts[num_types], np.delete(found.type, partner[is_paired]), 1)  # spurious
    kinds = [column == gold.type, column == num_types, column < num_types]
    gold_kinds = np.select(kinds, [CORRECT, BOUNDARY, TYPE], MISSED)
    found_kinds = np.full(len(found), SPURIOUS)
    found_kinds[partner[is_paired]] = gold_kinds[is_paired]
    kept = np.union1d(gold.type, found.type).tolist()
    rows, columns = [*kept, num_types], [*kept, num_types, num_types + 1]
    types = [gold.types[number] for number in kept]
    counts = counts[np.ix_(rows, columns)]
    return Confusion(gold_kinds.tolist(), found_kinds.tolist(), types, counts)


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
