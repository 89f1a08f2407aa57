"""Packing: several sentences in a row, and a mask that keeps them apart.

Padded to the longest of 24 sentences, two thirds of a batch are padding. Laid one after the other
into a few rows of about the length of the longest, they fill them nearly to the last slot.
Positions restart with each sentence, and the mask lets a token see its own sentence only: the model
computes the same numbers for every token, which probe.py checks before the first step.

In this file a sentence is a row of the data, and a row is a packed row that holds several of them.
Shapes: S sentences with N sub-words in all; B packed rows of T slots.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from rawtrain.batches import EVALUATION
from rawtrain.collate.tokens import TokenSource, placed, placed_all
from rawtrain.data.columns import offsets_of, positions_in_rows
from rawtrain.loss import Batch

ALIGNMENT = 8  # slots: what matrix kernels like best

# bfloat16's lowest number, which float32 has too: added to a score, it leaves a weight of 0.
HIDDEN = -3.3895313892515355e38


def choose_rows(
    lengths: np.ndarray, width: int, most_slots: float = np.inf
) -> tuple[np.ndarray, int]:
    """(the row of each sentence (S,), the number of slots T), so that the rows cost least.

    A slot costs the matrix products of its token, which grow with the model's `width`, and scores
    against all slots of its row. Lengths of rows are tried from the longest sentence on, those with
    the lowest bound first; none has more than `most_slots`, unless a sentence has.
    """
    total, longest = int(lengths.sum()), int(lengths.max())
    most_slots = max(most_slots, longest)
    shortest_row = int(min(-(-longest // ALIGNMENT) * ALIGNMENT, most_slots))
    bounds = []
    for num_slots in range(shortest_row, 2 * shortest_row + 8 * ALIGNMENT, ALIGNMENT):
        if num_slots <= most_slots:
            cost_of_row = num_slots * (width + num_slots)
            bounds.append((-(-total // num_slots) * cost_of_row, cost_of_row, num_slots))
    best_cost, best = np.inf, (np.zeros_like(lengths), shortest_row)  # until one has been tried
    for bound, cost_of_row, num_slots in sorted(bounds):
        if bound >= best_cost:
            break
        rows = fit(lengths, num_slots)
        cost = (rows.max() + 1) * cost_of_row
        if cost < best_cost:
            best_cost, best = cost, (rows, num_slots)
    return best


def fit(lengths: np.ndarray, num_slots: int) -> np.ndarray:
    """The row of each sentence (S,): the longest first, each into the fullest row that has room.

    >>> fit(np.array([2, 7, 3, 5]), num_slots=10).tolist()
    [1, 0, 0, 1]
    """
    rows = np.empty(len(lengths), dtype=np.int64)
    room, num_rows = [], 0  # (free slots, row), sorted
    for sentence in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sentence])
        place = bisect_left(room, (length,))
        if place < len(room):
            free, row = room.pop(place)
        else:
            free, row, num_rows = num_slots, num_rows, num_rows + 1
        rows[sentence] = row
        insort(room, (free - length, row))
    return rows


@dataclass(frozen=True)
class PackedRows:
    """Makes the micro-batch of some sentences: packed, with the mask that keeps them apart.

    `source` gives their tokens: `TaggedTokens` or `MaskedTokens`. `width` is the model's hidden
    size. `first_position` is the position id of the first token of a sentence, and `num_positions`
    how many the model has: some count through the whole row, whatever they are told.
    """

    source: TokenSource
    tokenizer: PreTrainedTokenizerBase
    width: int
    first_position: int = 0
    num_positions: float = np.inf

    def __call__(self, rows: np.ndarray, epoch: int = EVALUATION) -> Batch:
        lengths = self.source.columns.lengths_of(rows)
        row, num_slots = choose_rows(lengths, self.width, self.num_positions)
        batch, _ = self.laid_out(self.source.tokens(rows, epoch), lengths, row, num_slots)
        return batch

    def laid_out(
        self, tokens: dict[str, np.ndarray], lengths: np.ndarray, row: np.ndarray, num_slots: int
    ) -> tuple[Batch, np.ndarray]:
        """A micro-batch, and the slot of each token (N,) in its rows laid end to end.

        tokens: arrays (N,) of the sentences end to end. lengths, row: of each sentence (S,).
        The tensors are int64 (B, T), but "attention_mask" float32 (B, 1, T, T), added to scores.
        """
        positions = positions_in_rows(lengths)
        slots = np.repeat(_first_slots(lengths, row, num_slots), lengths) + positions
        shape = int(row.max()) + 1, num_slots
        batch = placed_all(tokens, slots, shape, self.tokenizer)
        batch["position_ids"] = placed(positions, slots, shape, 0) + self.first_position
        sentence = placed(np.repeat(np.arange(len(lengths)), lengths), slots, shape, -1)
        together = sentence[:, None, :, None] == sentence[:, None, None, :]
        batch["attention_mask"] = np.where(together, np.float32(0), np.float32(HIDDEN))
        return {name: torch.from_numpy(array) for name, array in batch.items()}, slots


def _first_slots(lengths: np.ndarray, row: np.ndarray, num_slots: int) -> np.ndarray:
    """Where each sentence begins (S,) in the rows laid end to end: behind the one before it."""
    in_order = np.argsort(row, kind="stable")
    before = offsets_of(lengths[in_order])[:-1]
    row_begins = np.searchsorted(row[in_order], row[in_order])
    first = np.empty(len(lengths), dtype=np.int64)
    first[in_order] = row[in_order] * num_slots + before - before[row_begins]
    return first
