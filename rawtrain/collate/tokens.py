"""Where the tokens of a micro-batch come from: flat columns, masked on the way for a masked LM.

pad.py and pack.py lay them out in rows. Shapes: N sub-words of a micro-batch, its rows end to end.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rawtrain.batches import EVALUATION
from rawtrain.data.columns import IGNORED, Columns


class TokenSource(Protocol):
    @property
    def columns(self) -> Columns: ...

    def tokens(self, rows: np.ndarray, epoch: int = EVALUATION) -> dict[str, np.ndarray]:
        """Arrays (N,) of the rows of these numbers: "input_ids", "labels", perhaps more."""


@dataclass(frozen=True)
class TaggedTokens:
    """The columns as they are, the same in every epoch; keyed_mask.py has the other source."""

    columns: Columns

    def tokens(self, rows: np.ndarray, epoch: int = EVALUATION) -> dict[str, np.ndarray]:
        return self.columns.select(rows).values


def placed_all(
    tokens: dict[str, np.ndarray], places: np.ndarray, shape: tuple[int, int], tokenizer
) -> dict[str, np.ndarray]:
    """All columns of tokens `placed`; the tokenizer's padding fills the slots that none takes."""
    pad_id = tokenizer.pad_token_id or 0  # any token will do where there is none: it is masked
    gaps = {"input_ids": pad_id, "token_type_ids": tokenizer.pad_token_type_id}
    gaps["labels"] = IGNORED
    return {name: placed(values, places, shape, gaps[name]) for name, values in tokens.items()}


def placed(values: np.ndarray, places: np.ndarray, shape: tuple[int, int], gap: int) -> np.ndarray:
    """int64 array of this shape: `values` at `places` of its rows laid end to end, else `gap`."""
    array = np.full(shape, gap, dtype=np.int64)
    array.reshape(-1)[places] = values
    return array
