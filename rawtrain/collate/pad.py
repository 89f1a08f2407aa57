"""Padding: rows of different lengths become a rectangle; the collator for token classification.

A collator takes the features (one dict for each row) of a micro-batch and returns them as tensors.
Here each row is filled up to a common length: token ids with the pad token, the attention mask
with 0, labels with -100, which the loss ignores.

B rows, T sub-words of a padded row, N sub-words of all rows before padding.
"""

from array import array
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import PaddingStrategy, to_py_obj

from rawtrain.collate.tokens import EVALUATION, TokenSource, gap_values, placed


@dataclass
class DataCollatorForTokenClassification:
    """Pads features together with their labels.

    Takes the place of the class of this name in transformers 5.23.0; tests/test_collator_padding.py
    compares the two. `padding`: True or "longest" to the longest row, "max_length" to `max_length`
    or, without one, to the model's longest input, False not at all. The labels are in "label" or
    "labels", come back as int64 (B, T) under the same name, and may be missing.
    """

    tokenizer: PreTrainedTokenizerBase
    padding: bool | str | PaddingStrategy = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = -100
    return_tensors: str = "pt"

    def __call__(self, features, return_tensors: str | None = None) -> BatchEncoding:
        return call_for_framework(self, features, return_tensors)

    def torch_call(self, features) -> BatchEncoding:
        return self._collate(features, "pt")

    def numpy_call(self, features) -> BatchEncoding:
        return self._collate(features, "np")

    def _collate(self, features, framework: str) -> BatchEncoding:
        columns = columns_of(features)
        label_name = "label" if "label" in columns else "labels"
        labels = columns.pop(label_name, None)
        options = self.padding, self.max_length, self.pad_to_multiple_of
        batch = pad_columns(self.tokenizer, columns, framework, *options)
        if labels is not None:
            length, side = batch["input_ids"].shape[1], self.tokenizer.padding_side
            frame = _Frame([len(row) for row in labels], length, side)
            padded = _pad_column(labels, self.label_pad_token_id, frame)
            batch[label_name] = as_tensor(padded, framework)
        return batch


@dataclass(frozen=True)
class PaddedRows:
    """Makes the micro-batch of some rows from flat columns: a rectangle, without a Python list.

    `source` gives their tokens: `TaggedTokens` or `MaskedTokens`. The result is what the collator
    above makes of the same features.
    """

    source: TokenSource
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows, epoch=EVALUATION):
        lengths = self.source.columns.lengths_of(rows)
        batch, _ = self.laid_out(self.source.tokens(rows, epoch), lengths)
        return batch

    def laid_out(self, tokens, lengths):
        """A micro-batch, and the place of each token [N] in its rows laid end to end.

        tokens: arrays [N] of the rows end to end. The tensors are int64 (B, T), among them
        "attention_mask".
        """
        frame = _Frame(lengths, int(lengths.max()), self.tokenizer.padding_side)
        shape, places, gaps = frame.is_item.shape, frame.places, gap_values(self.tokenizer)
        batch = {name: placed(values, places, shape, gaps[name]) for name, values in tokens.items()}
        batch["attention_mask"] = frame.is_item.astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}, places


def pad_rows(rows: list[np.ndarray], value: int, length: int, side: str = "right") -> np.ndarray:
    """One array (B, length) of the dtype of the rows, which are 1-D and none longer than `length`.

    >>> pad_rows([np.array([5, 6, 7]), np.array([8])], value=0, length=4)
    array([[5, 6, 7, 0],
           [8, 0, 0, 0]])
    """
    return _Frame([len(row) for row in rows], length, side).fill(np.concatenate(rows), value)


def pad_columns(
    tokenizer, columns, framework, padding=True, max_length=None, pad_to_multiple_of=None
) -> BatchEncoding:
    """The columns as tensors ("pt") or arrays ("np"), like `PreTrainedTokenizerBase.pad`'s.

    Padded are token ids, attention mask (made if the tokenizer wants one), token types and
    special-tokens mask, each (B, T). Any other column becomes a tensor as it is, or an error.
    """
    ids_name = tokenizer.model_input_names[0]
    if ids_name not in columns:
        raise ValueError(
            f"the features have {sorted(columns)}, but no {ids_name!r}: pass the tokenizer's output"
        )
    were_arrays = _are_arrays(columns[ids_name])
    lengths = [len(row) for row in columns[ids_name]]
    length = _padded_length(tokenizer, lengths, padding, max_length, pad_to_multiple_of)
    frame = _Frame(lengths, length, tokenizer.padding_side)
    values = _pad_values(tokenizer)
    columns, matrices = dict(columns), None
    if getattr(columns.get("attention_mask", [None])[0], "ndim", 0) > 1:
        matrices = columns.pop("attention_mask")  # says who sees whom: stacked, never padded
    elif "attention_mask" in values and "attention_mask" not in columns:
        columns["attention_mask"] = [[1] * n for n in lengths]

    batch = {}
    for name, rows in columns.items():
        if name in values:
            rows = _pad_column(rows, values[name], frame)
        elif were_arrays:
            rows = to_py_obj(rows)  # like the others, it loses a dtype of its own
        batch[name] = as_tensor(rows, framework) if isinstance(rows, np.ndarray) else rows
    if matrices is not None:
        batch["attention_mask"] = (torch if torch.is_tensor(matrices[0]) else np).stack(matrices)
    return BatchEncoding(batch, tensor_type=framework)


def columns_of(features) -> dict[str, list]:
    """From a dict for each row to a list for each key; the first row says which keys there are."""
    names = features[0].keys()
    return {name: [feature[name] for feature in features] for name in names}


def call_for_framework(collator, features, return_tensors: str | None):
    """The call's own `return_tensors` goes before the collator's."""
    framework = collator.return_tensors if return_tensors is None else return_tensors
    if framework == "pt":
        return collator.torch_call(features)
    if framework == "np":
        return collator.numpy_call(features)
    raise ValueError(f"return_tensors is {framework!r}: expected 'pt' (torch) or 'np' (numpy)")


def as_tensor(padded, framework: str) -> np.ndarray | torch.Tensor:
    """Of an array without a copy; of lists int64, whatever they hold."""
    if isinstance(padded, np.ndarray):
        return torch.from_numpy(padded) if framework == "pt" else padded
    if framework == "pt":
        return torch.tensor(padded, dtype=torch.int64)
    return np.array(padded, dtype=np.int64)


def round_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple


def require_pad_token(tokenizer) -> None:
    if tokenizer.pad_token is None or tokenizer.pad_token_id < 0:
        raise ValueError(
            f"padding needs a pad token, and {type(tokenizer).__name__} has none: "
            "set tokenizer.pad_token (often tokenizer.eos_token)"
        )


def _pad_values(tokenizer) -> dict[str, int]:
    """What each column that is padded is filled up with."""
    values = {
        tokenizer.model_input_names[0]: tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "special_tokens_mask": 1,
    }
    if "attention_mask" in tokenizer.model_input_names:
        values["attention_mask"] = 0
    return values


def _padded_length(tokenizer, lengths, padding, max_length, pad_to_multiple_of) -> int | None:
    """T, or None for rows that shall keep their lengths."""
    named = "longest" if padding is True else "do_not_pad" if padding is False else padding
    strategy = PaddingStrategy(named)  # a ValueError names what there is
    if strategy == PaddingStrategy.MAX_LENGTH and max_length is None:
        max_length = tokenizer.model_max_length
        if max_length > LARGE_INTEGER:  # transformers' way to say that there is no limit
            strategy = PaddingStrategy.DO_NOT_PAD
    if strategy == PaddingStrategy.DO_NOT_PAD:
        return None
    require_pad_token(tokenizer)
    length = max(lengths) if strategy == PaddingStrategy.LONGEST else max_length
    return round_up(length, pad_to_multiple_of)


def _pad_column(rows, value: int, frame: "_Frame") -> np.ndarray | list[list]:
    """An array (B, T) if the rows are plain integers; else lists, for BatchEncoding to convert.

    The slow way is also that of every mistake (a mask of another length than its ids, rows longer
    than the frame): it ends in the error, or the ragged array, that transformers answers with.
    """
    if frame.length is not None and max(frame.lengths) <= frame.length:
        flat = _plain_integers(rows)
        if flat is not None and list(map(len, rows)) == frame.lengths:
            return frame.fill(flat, value)
    return frame.fill_lists(to_py_obj(rows), value)


@dataclass(frozen=True)
class _Frame:
    """Where the items of B rows go, if all rows shall be of one `length` (None: as they are)."""

    lengths: list[int]
    length: int | None
    side: str

    @cached_property
    def is_item(self) -> np.ndarray:
        """Bool (B, T), False in the gaps."""
        lengths, place = np.array(self.lengths)[:, None], np.arange(self.length)
        return place < lengths if self.side == "right" else place >= self.length - lengths

    @cached_property
    def places(self) -> np.ndarray:
        """Where the items stand in the rectangle, laid end to end [N]."""
        return np.flatnonzero(self.is_item)

    def fill(self, flat: np.ndarray, value: int) -> np.ndarray:
        """(B, T) of `value`, in which the items of `flat` [N] take their places at one stroke."""
        if len(flat) == len(self.lengths) * self.length:  # no gaps, so `value` may be missing
            return flat.reshape(len(self.lengths), self.length)
        padded = np.full(self.is_item.shape, value, dtype=flat.dtype)
        padded.reshape(-1)[self.places] = flat
        return padded

    def fill_lists(self, rows: list[list], value: int) -> list[list]:
        if self.length is None:
            return rows
        filled = []
        for row, n in zip(rows, self.lengths, strict=True):
            gap = [value] * (self.length - n)  # empty for a row that is too long
            if n != self.length:
                row = row + gap if self.side == "right" else gap + row
            filled.append(row)
        return filled


def _plain_integers(rows) -> np.ndarray | None:
    """All items of the rows, int64 [N], or None if they are anything but integers."""
    first = _first_item(rows)
    if isinstance(first, bool):
        return None
    try:
        if isinstance(first, torch.Tensor):
            flat = torch.cat(rows).numpy()
        elif isinstance(first, np.ndarray):
            flat = np.concatenate(rows)
        else:  # array.array refuses floats and is the quickest way from lists to int64
            buffer = array("q")
            for row in rows:
                buffer.fromlist(row)
            flat = np.frombuffer(buffer, dtype=np.int64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return flat.astype(np.int64, copy=False) if flat.ndim == 1 and flat.dtype.kind in "iu" else None


def _are_arrays(rows) -> bool:
    """True for numpy arrays and torch tensors, False for lists of integers."""
    first = _first_item(rows)
    if isinstance(first, (np.ndarray, torch.Tensor)):
        return True
    if isinstance(first, (int, list, tuple)):
        return False
    raise ValueError(
        f"the features' token ids hold {first!r} ({type(first).__name__}): "
        "expected lists of int, numpy arrays or torch tensors"
    )


def _first_item(rows):
    """The first row if it is an array, else the first item that any of the lists holds."""
    if not isinstance(rows[0], (list, tuple)):
        return rows[0]
    return next((row[0] for row in rows if len(row)), [])
