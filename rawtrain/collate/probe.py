"""A few real rows, run through a model in several layouts: does it give them the same logits?

Shapes: B rows, T sub-words of a padded row, N sub-words of all rows, P of them compared, C classes.
"""

import copy

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rawtrain.collate.pack import PackedRows
from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TokenSource
from rawtrain.data.columns import positions_in_rows
from rawtrain.fast.attention import set_attention
from rawtrain.loss import Batch, BatchLoss, on_device, summed_cross_entropy
from rawtrain.models.loading import first_position, num_positions

NUM_ROWS = 4
LONGEST = 512  # sub-words of a row that are looked at; attention is quadratic in them
NUM_COMPARED = 256  # tokens, each with as many logits as the vocabulary is large
TOLERANCE = 1e-4  # of the largest logit; another order of sums gives 1e-6, a wrong mask 0.1

Layout = tuple[Batch, torch.Tensor]  # and where the compared tokens (P,) are in its rows end to end


def packed_rows(
    source: TokenSource, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> PackedRows:
    width = getattr(model.config, "hidden_size", 768)  # a config of several parts has none
    return PackedRows(source, tokenizer, width, first_position(model), num_positions(model))


class Probe:
    """Rows from the shortest to the longest, and the logits that a model as it is gives them.

    The layouts: `padded`, as a batch usually is; `packed`, all in one row, so that each could see
    the others; `alone`, the shortest without any padding. Works on a copy of the model, since some
    are changed for good by what they see (BigBird by short rows).

    `failure` says in words why this model's layouts cannot be compared at all, else it is None.
    """

    def __init__(
        self, model: PreTrainedModel, source: TokenSource, tokenizer: PreTrainedTokenizerBase
    ):
        self.own_attention: str = model.config._attn_implementation
        tokens, lengths = _some_rows(source)
        num_tokens, shortest = int(lengths.sum()), int(lengths[0])
        compared = np.unique(np.linspace(0, num_tokens - 1, NUM_COMPARED).astype(np.int64))

        def layout(batch: Batch, places: np.ndarray) -> Layout:
            return batch, torch.from_numpy(places[compared[compared < len(places)]])

        padding, packing = PaddedRows(source, tokenizer), packed_rows(source, tokenizer, model)
        first = {name: values[:shortest] for name, values in tokens.items()}
        one_row = np.zeros_like(lengths)
        self.padded = layout(*padding.laid_out(tokens, lengths))
        self.packed = layout(*packing.laid_out(tokens, lengths, one_row, num_tokens))
        self.alone = layout(*padding.laid_out(first, lengths[:1]))
        try:
            self.model = copy.deepcopy(model).eval()
            self.expected = self._logits(self.padded, summed_cross_entropy)  # (P, C)
            self.failure = None
            if not self.expected.isfinite().all():
                self.failure = "the model's logits are not finite"
            elif (self.expected == self.expected[0]).all():  # no mixed-up token would be noticed
                self.failure = "the model's logits are the same for every token"
        except Exception as error:  # whatever a model raises for rows that it does not take
            self.failure = f"the model raises {type(error).__name__} for a few rows of the data"

    def problem(
        self, layout: Layout, batch_loss: BatchLoss, attention: str | None = None
    ) -> str | None:
        """What is wrong with the logits in this layout, in words; None if they are as expected."""
        set_attention(self.model, attention or self.own_attention)
        try:
            logits = self._logits(layout, batch_loss)
        except Exception as error:
            return f"the model raises {type(error).__name__} otherwise"
        expected = self.expected[: len(logits)]
        if logits.shape != expected.shape:
            return "the model returns logits of another shape otherwise"
        difference = float((logits - expected).abs().max() / expected.abs().max())
        if difference <= TOLERANCE:  # False for NaN
            return None
        return f"logits would differ by {difference:.1g} of the largest"

    @torch.no_grad()
    def _logits(self, layout, batch_loss):
        return batch_loss(self.model, *on_device(*layout, self.model.device))[1]


def _some_rows(source):
    """The tokens of some rows, arrays (N,), and their lengths (B,), the shortest first."""
    all_lengths = source.columns.lengths
    by_length = np.argsort(all_lengths, kind="stable")
    rows = by_length[np.unique(np.linspace(0, len(by_length) - 1, NUM_ROWS).astype(np.int64))]
    lengths = all_lengths[rows]
    shown = positions_in_rows(lengths) < LONGEST
    tokens = {name: values[shown] for name, values in source.tokens(rows).items()}
    return tokens, np.minimum(lengths, LONGEST)
