"""Encoded rows kept flat: one array for all tokens of a column, and where each row begins."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORED = -100  # the label of a token without a label: torch's cross_entropy leaves it out


@dataclass(frozen=True)
class Columns:
    """R rows of different lengths, N tokens in all.

    A list of Python lists takes thirty times the memory, and takes a loop over its tokens to cut a
    batch from it instead of a slice.
    """

    values: dict[str, np.ndarray]  # each [N]
    offsets: np.ndarray  # int64 [R + 1]; row i is values[offsets[i] : offsets[i + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row [R]."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of tokens of these rows; unlike `lengths[rows]`, without work for others."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def row(self, number: int) -> dict[str, np.ndarray]:
        """The columns of one row, as views."""
        start, end = self.offsets[number], self.offsets[number + 1]
        return {name: values[start:end] for name, values in self.values.items()}

    def only(self, *names: str) -> "Columns":
        """The same rows with these columns alone."""
        return Columns({name: self.values[name] for name in names}, self.offsets)

    def first(self, number: int | None) -> "Columns":
        """The first `number` rows; all of them for None."""
        offsets = self.offsets[: None if number is None else number + 1]
        values = {name: values[: offsets[-1]] for name, values in self.values.items()}
        return Columns(values, offsets)

    def select(self, rows: np.ndarray) -> "Columns":
        """A copy of these rows, in this order."""
        where, _ = self.token_index(rows)
        values = {name: values[where] for name, values in self.values.items()}
        return Columns(values, offsets_of(self.lengths_of(rows)))

    def token_index(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices in `values` of the tokens of `rows`, and the position of each in its row."""
        lengths = self.lengths_of(rows)
        positions = positions_in_rows(lengths)
        return np.repeat(self.offsets[rows], lengths) + positions, positions


def collate_rows(
    collator: Callable[[list], Any], columns: Columns, rows: Iterable[int], epoch: int = 0
) -> Any:
    """The micro-batch that a collator of transformers makes of these rows, whatever the epoch."""
    return collator([columns.row(row) for row in rows])


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where rows of these lengths begin in a flat array, and where the last ends.

    >>> offsets_of([3, 2]).tolist()
    [0, 3, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def positions_in_rows(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """The position of each token in its row, for rows of these lengths.

    >>> positions_in_rows([3, 2]).tolist()
    [0, 1, 2, 0, 1]
    """
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def flat(rows: Iterable[Iterable[int | None]]) -> np.ndarray:
    """The numbers of all rows in one array, with -1 for None, the word id of special tokens.

    >>> flat([[None, 0, 1], [7]]).tolist()
    [-1, 0, 1, 7]
    """
    return np.fromiter((-1 if n is None else n for row in rows for n in row), dtype=np.int32)
