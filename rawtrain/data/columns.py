"""Encoded rows kept flat: one array for all tokens of a column, and where each row begins."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Columns:
    """R rows of different lengths, N tokens in all.

    A list of Python lists takes thirty times the memory, and cutting a batch from it is a loop
    over tokens instead of a slice.
    """

    values: dict[str, np.ndarray]  # each [N]
    offsets: np.ndarray  # int64 [R + 1]; row i is values[offsets[i] : offsets[i + 1]]

    def __len__(self):
        return len(self.offsets) - 1

    @property
    def lengths(self):
        """The number of tokens of each row [R]."""
        return np.diff(self.offsets)

    def row(self, number):
        """The columns of one row, as views."""
        start, end = self.offsets[number], self.offsets[number + 1]
        return {name: values[start:end] for name, values in self.values.items()}

    def first(self, number):
        """The first `number` rows; all if it is None or more than there are."""
        offsets = self.offsets[: None if number is None else number + 1]
        values = {name: values[: offsets[-1]] for name, values in self.values.items()}
        return Columns(values, offsets)

    def token_index(self, rows):
        """Where the tokens of `rows` stand, and the position of each in its row: two arrays."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        return np.repeat(self.offsets[rows], lengths) + positions, positions


def offsets_of(lengths):
    """Where rows of these lengths begin in a flat array, and where the last ends.

    >>> offsets_of([3, 2]).tolist()
    [0, 3, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
