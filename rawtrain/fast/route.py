"""How rows are laid out and where the head looks: the fast way, if the model agrees with it.

Packing asks things of a model that no list of names can promise: that it takes a mask for each pair
of tokens, counts positions as it is told, and mixes tokens nowhere but in its attention. So a few
real rows are run both ways before the first step, and the padded way is taken where they differ.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.collate.pack import PackedRows
from rawtrain.collate.pad import PaddedRows
from rawtrain.fast.attention import ROW_ATTENTION, set_attention
from rawtrain.fast.dropout import use_fast_dropout
from rawtrain.fast.head import cross_entropy_at_labels
from rawtrain.loop import default_loss, on_device, summed_cross_entropy
from rawtrain.models import first_position
from rawtrain.results.log import logger

NUM_PROBED_ROWS = 4
NUM_PROBED_TOKENS = 256  # a vocabulary of logits for each
TOLERANCE = 1e-4  # of the largest logit; another order of sums gives 1e-6, a wrong mask 0.1


@dataclass(frozen=True)
class Route:
    """How the batches of a run are made, and with which `batch_loss` it is trained and evaluated.

    Packed rows are for training. Evaluation puts rows of like lengths together, which leaves next
    to no padding to save.
    """

    batch_loss: Callable
    packs: bool = False
    sorts: bool = False  # by length: rows of a step that is not packed, and of an evaluation

    def batches(self, split, source, tokenizer, model, settings):
        """The `TrainingBatches` or `EvaluationBatches` of a split."""
        lengths = source.columns.lengths if self.sorts else None
        num_rows, padded = len(source.columns), PaddedRows(source, tokenizer)
        if split != "train":
            return EvaluationBatches(num_rows, settings, padded, lengths)
        if not self.packs:
            return TrainingBatches(num_rows, settings, padded, lengths)
        return TrainingBatches(num_rows, settings, packed_rows(source, tokenizer, model))


def make_batches(model, sources, tokenizer, settings):
    """The batches of each split, and the `batch_loss` to train and evaluate them with.

    sources: the `TokenSource` of each split. What can be fast is made fast, see `choose_route`.
    """
    route = choose_route(model, next(iter(sources.values())), tokenizer, settings)
    batches = {
        split: route.batches(split, source, tokenizer, model, settings)
        for split, source in sources.items()
    }
    return batches, route.batch_loss


def choose_route(model, source, tokenizer, settings):
    """The fast way through this model that it agrees with; said in one line.

    source: the `TokenSource` of one of the splits. Changes the model's attention and dropout
    functions, and no weight.
    """
    if not settings.is_fast:
        return Route(default_loss(settings))
    probe = _Probe(model, source, tokenizer)
    batch_loss = cross_entropy_at_labels
    if probe.difference(probe.padded, batch_loss) > TOLERANCE:
        batch_loss = summed_cross_entropy
    packs, rows = False, "padded, as --padding asks for"
    own_attention = model.config._attn_implementation
    for attention in (ROW_ATTENTION, own_attention):
        set_attention(model, attention)
        if probe.difference(probe.padded, batch_loss) > TOLERANCE:
            continue  # the model's attention is more than what it hands over: leave it its own
        if settings.padding:
            break
        difference = probe.difference(probe.packed, batch_loss)
        packs = difference <= TOLERANCE
        if packs:
            rows = f"packed, with the logits of padded ones (to {difference:.0e})"
            break
        rows = f"padded, because packed ones have other logits (by {difference:.0e})"
    if model.device.type == "cpu":
        use_fast_dropout(model)
    head = "labelled" if batch_loss is cross_entropy_at_labels else "all"
    logger.info(f"rows are {rows}; the head runs at {head} tokens")
    return Route(batch_loss, packs=packs, sorts=True)


def packed_rows(source, tokenizer, model):
    return PackedRows(source, tokenizer, model.config.hidden_size, first_position(model))


class _Probe:
    """The first rows of the data, padded and packed, and the logits of the untouched model."""

    def __init__(self, model, source, tokenizer):
        self.model = model
        rows = np.arange(min(NUM_PROBED_ROWS, len(source.columns)))
        lengths = source.columns.lengths_of(rows)
        chosen = np.linspace(0, lengths.sum() - 1, NUM_PROBED_TOKENS).astype(np.int64)
        batch = PaddedRows(source, tokenizer)(rows)
        tokens = batch["attention_mask"].flatten().nonzero().squeeze(1)
        self.padded = batch, tokens[chosen]
        # all in one row, so that every one of them could see the others
        laid_out = packed_rows(source, tokenizer, model).laid_out
        one_row = np.zeros_like(rows), int(lengths.sum())
        batch, slots = laid_out(source.tokens(rows), lengths, *one_row)
        self.packed = batch, torch.from_numpy(slots)[chosen]
        self.expected = self._logits(self.padded, summed_cross_entropy)

    def difference(self, layout, batch_loss):
        """The largest difference of a logit, as a share of the largest; infinite for an error."""
        try:
            logits = self._logits(layout, batch_loss)
        except Exception:  # whatever a model raises, it does not take rows of this kind
            return math.inf
        if logits.shape != self.expected.shape:
            return math.inf
        return float((logits - self.expected).abs().max() / self.expected.abs().max())

    @torch.no_grad()
    def _logits(self, layout, batch_loss):
        self.model.eval()
        return batch_loss(self.model, *on_device(*layout, self.model.device))[1]
