"""Padding: rows of different lengths become a rectangle; the collator for token classification.

A collator takes the features (one dict for each row) of a micro-batch and returns them as tensors.
Here each row is filled up to a common length: token ids with the pad token, the attention mask
with 0, labels with -100, which the loss ignores.

Shapes: B rows, T sub-words of a padded row, N sub-words of all rows without padding.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import PaddingStrategy, to_py_obj

from rawtrain.batches import EVALUATION
from rawtrain.collate.tokens import TokenSource, placed_all
from rawtrain.data.columns import IGNORED
from rawtrain.loss import Batch


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
    label_pad_token_id: int = IGNORED
    return_tensors: str = "pt"

    def __call__(
        self, features: Sequence[Mapping[str, Any]], return_tensors: str | None = None
    ) -> BatchEncoding:
        framework = chosen_framework(self, return_tensors)
        columns = columns_of(features)
        label_name = "label" if "label" in columns else "labels"
        labels = columns.pop(label_name, None)
        options = self.padding, self.max_length, self.pad_to_multiple_of
        batch = pad_columns(self.tokenizer, columns, framework, *options)
        if labels is not None:
            lengths, length = [len(row) for row in labels], batch["input_ids"].shape[1]
            side = self.tokenizer.padding_side
            rows = fill_up(labels, self.label_pad_token_id, lengths, length, side)
            batch[label_name] = as_tensor(_as_integers(rows), framework)
        return batch


@dataclass(frozen=True)
class PaddedRows:
    """Makes the micro-batch of some rows from flat columns: a rectangle, without a Python list.

    `source` gives their tokens: `TaggedTokens` or `MaskedTokens`. The result is what the collator
    above makes of the same features.
    """

    source: TokenSource
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: np.ndarray, epoch: int = EVALUATION) -> Batch:
        lengths = self.source.columns.lengths_of(rows)
        batch, _ = self.laid_out(self.source.tokens(rows, epoch), lengths)
        return batch

    def laid_out(
        self, tokens: dict[str, np.ndarray], lengths: np.ndarray
    ) -> tuple[Batch, np.ndarray]:
        """A micro-batch, and the place of each token (N,) in its rows laid end to end.

        tokens: arrays (N,) of the rows end to end. lengths: of the rows (B,). The tensors are int64
        (B, T), among them "attention_mask".
        """
        length = lengths.max()
        gaps = 0 if self.tokenizer.padding_side == "right" else length - lengths[:, None]
        positions = np.arange(length) - gaps
        is_token = (positions >= 0) & (positions < lengths[:, None])
        places = np.flatnonzero(is_token)
        batch = placed_all(tokens, places, is_token.shape, self.tokenizer)
        batch["attention_mask"] = is_token.astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}, places


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
    columns, matrices = dict(columns), None
    if getattr(columns.get("attention_mask", [None])[0], "ndim", 0) > 1:
        matrices = columns.pop("attention_mask")  # says who sees whom: stacked, never padded
    if _are_arrays(columns[ids_name]):
        columns = {name: to_py_obj(rows) for name, rows in columns.items()}
    lengths = [len(row) for row in columns[ids_name]]
    length = _padded_length(tokenizer, lengths, padding, max_length, pad_to_multiple_of)
    values = {
        ids_name: tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "special_tokens_mask": 1,
    }
    if "attention_mask" in tokenizer.model_input_names and matrices is None:
        values["attention_mask"] = 0
        columns.setdefault("attention_mask", [[1] * n for n in lengths])
    for name in values.keys() & columns.keys():
        rows = fill_up(columns[name], values[name], lengths, length, tokenizer.padding_side)
        array = _as_integers(rows)
        columns[name] = as_tensor(array, framework) if isinstance(array, np.ndarray) else rows
    if matrices is not None:
        columns["attention_mask"] = (torch if torch.is_tensor(matrices[0]) else np).stack(matrices)
    return BatchEncoding(columns, tensor_type=framework)  # converts, or refuses, what is left


def columns_of(features: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """From a dict for each row to a list for each key; the first row says which keys there are."""
    names = features[0].keys()
    return {name: [feature[name] for feature in features] for name in names}


def chosen_framework(collator, return_tensors: str | None) -> str:
    """ "pt" or "np"; the call's own `return_tensors` goes before the collator's."""
    framework = collator.return_tensors if return_tensors is None else return_tensors
    if framework not in ("pt", "np"):
        raise ValueError(f"return_tensors is {framework!r}: expected 'pt' (torch) or 'np' (numpy)")
    return framework


def as_tensor(rows: np.ndarray | list, framework: str) -> np.ndarray | torch.Tensor:
    """Of an array without a copy; of lists int64, whatever they hold."""
    if isinstance(rows, np.ndarray):
        return torch.from_numpy(rows) if framework == "pt" else rows
    if framework == "pt":
        return torch.tensor(rows, dtype=torch.int64)
    return np.array(rows, dtype=np.int64)


def round_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple


def require_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.pad_token is None or tokenizer.pad_token_id < 0:
        raise ValueError(
            f"padding needs a pad token, and {type(tokenizer).__name__} has none: "
            "set tokenizer.pad_token (often tokenizer.eos_token)"
        )


def _padded_length(tokenizer, lengths, padding, max_length, pad_to_multiple_of) -> int | None:
    """T, or None for rows that keep their lengths."""
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


def fill_up(rows, value: int, lengths: list[int], length: int | None, side: str) -> list[list]:
    """The rows as lists, `value` added on one side to those whose number in `lengths` is short.

    `lengths` are those of the token ids, as in transformers: a column that does not fit them stays
    ragged, and is refused when it becomes a tensor.
    """
    filled = []
    for row, n in zip(rows, lengths, strict=True):
        row = row if isinstance(row, list) else to_py_obj(row)
        if length is not None and n != length:
            gap = [value] * (length - n)
            row = row + gap if side == "right" else gap + row
        filled.append(row)
    return filled


def _as_integers(rows: list[list]) -> np.ndarray | list[list]:
    """int64 (B, T) if the rows hold integers and have one length; else the rows, unchanged."""
    flat = array("q")  # refuses floats, and is the quickest way from lists to int64
    try:
        for row in rows:
            flat.fromlist(row)
    except (TypeError, OverflowError):
        return rows
    num_rows, length = len(rows), len(rows[0])
    if any(len(row) != length for row in rows) or (length and isinstance(rows[0][0], bool)):
        return rows
    return np.frombuffer(flat, dtype=np.int64).reshape(num_rows, length)


def _are_arrays(rows) -> bool:
    """True for numpy arrays and torch tensors, False for lists of integers."""
    first = rows[0]
    if isinstance(first, (list, tuple)):
        first = next((row[0] for row in rows if len(row)), [])
    is_array = isinstance(first, (np.ndarray, torch.Tensor))
    if not is_array and not isinstance(first, (int, list, tuple)):
        raise ValueError(
            f"the features' token ids hold {first!r} ({type(first).__name__}): "
            "expected lists of int, numpy arrays or torch tensors"
        )
    return is_array
