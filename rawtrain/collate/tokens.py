"""Where the tokens of a micro-batch come from: flat columns, in masked-LM masked on the way.

pad.py and pack.py lay them out in rows. N sub-words of a micro-batch, its sentences end to end.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rawtrain.data.columns import IGNORED, Columns

EVALUATION = -1  # stands for the epoch where nothing is trained


class TokenSource(Protocol):
    @property
    def columns(self) -> Columns: ...

    def tokens(self, rows: np.ndarray, epoch: int = EVALUATION) -> dict[str, np.ndarray]:
        """Arrays [N] of the rows of these numbers: "input_ids", "labels" and what else there is."""


@dataclass(frozen=True)
class TaggedTokens:
    """The columns as they are, the same in every epoch; keyed_mask.py has the other source."""

    columns: Columns

    def tokens(self, rows, epoch=EVALUATION):
        where, _ = self.columns.token_index(rows)
        return {name: values[where] for name, values in self.columns.values.items()}


def gap_values(tokenizer):
    """What stands in the slots that no token takes."""
    return {
        "input_ids": tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "labels": IGNORED,
    }


def placed(values, places, shape, gap):
    """int64 array of this shape: `values` at `places` of its rows laid end to end, else `gap`."""
    array = np.full(shape, gap, dtype=np.int64)
    array.reshape(-1)[places] = values
    return array
