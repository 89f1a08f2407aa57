"""How rows are laid out and where the head looks: the fast way, if the model agrees with it.

Packing asks things of a model that no list of names can promise: that it takes a mask for each pair
of tokens, counts positions as it is told, and mixes tokens nowhere but in its attention. So a few
real rows are run both ways before the first step, and the padded way is taken where they differ.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rawtrain.batches import Collate, EvaluationBatches, TrainingBatches
from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.probe import Probe, packed_rows
from rawtrain.collate.tokens import TokenSource
from rawtrain.config import TrainingSettings
from rawtrain.fast.attention import ROW_ATTENTION, set_attention
from rawtrain.fast.dropout import use_fast_dropout
from rawtrain.fast.head import cross_entropy_at_labels
from rawtrain.loss import BatchLoss, summed_cross_entropy

logger = logging.getLogger(__name__)

KEEPS_ORDER = "evaluation keeps the order of the data"


@dataclass(frozen=True)
class Route:
    """How the batches of a run are made, and with which `batch_loss` it is trained and evaluated.

    Packed rows are for training. Evaluation puts rows of like lengths together, which leaves next
    to no padding to save.
    """

    batch_loss: BatchLoss
    packs: bool = False
    sorts: bool = False  # by length: rows of a step that is not packed, and of an evaluation


def make_batches(
    model: PreTrainedModel,
    sources: Mapping[str, TokenSource],
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingSettings,
) -> tuple[dict[str, Any], BatchLoss]:
    """The batches of each split, and the `BatchLoss` to train and evaluate them with.

    They are `TrainingBatches` of "train", and `EvaluationBatches` of every other split.
    """
    route = choose_route(model, next(iter(sources.values())), tokenizer, settings)
    batches = {}
    for split, source in sources.items():
        kind = TrainingBatches if split == "train" else EvaluationBatches
        collate: Collate = PaddedRows(source, tokenizer)
        lengths = source.columns.lengths if route.sorts else None
        if split == "train" and route.packs:
            collate, lengths = packed_rows(source, tokenizer, model), None
        batches[split] = kind(len(source.columns), settings, collate, lengths)
    return batches, route.batch_loss


def choose_route(
    model: PreTrainedModel,
    source: TokenSource,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingSettings,
) -> Route:
    """The fastest way through this model that leaves its logits as they are; logged in one line.

    source: of any split. Changes the model's attention and dropout functions, and no weight.
    """
    if not settings.is_fast:
        return Route(summed_cross_entropy)
    probe = Probe(model, source, tokenizer)
    if probe.failure:
        logger.info(f"rows are padded: {probe.failure}; the head runs at all tokens; {KEEPS_ORDER}")
        return Route(summed_cross_entropy)
    sees_all = probe.problem(probe.padded, cross_entropy_at_labels) is not None
    batch_loss = summed_cross_entropy if sees_all else cross_entropy_at_labels
    attention, problem = _choose_attention(probe, batch_loss, settings.padding)
    sorts = not probe.problem(probe.alone, batch_loss)
    set_attention(model, attention)
    if model.device.type == "cpu":
        use_fast_dropout(model)
    rows = f"padded: {problem}" if problem else "packed"
    said = f"rows are {rows}; the head runs at {'all' if sees_all else 'labelled'} tokens"
    logger.info(said if sorts else f"{said}; padding changes this model's logits, so {KEEPS_ORDER}")
    return Route(batch_loss, packs=problem is None, sorts=sorts)


def _choose_attention(probe: Probe, batch_loss: BatchLoss, padding: bool) -> tuple[str, str | None]:
    """The attention function to take, and why rows are not to be packed; None if they are."""
    attentions = (ROW_ATTENTION, probe.own_attention)
    usable = [name for name in attentions if not probe.problem(probe.padded, batch_loss, name)]
    usable = usable or [probe.own_attention]
    if padding:
        return usable[0], "--padding asks for it"
    for name in usable:
        problem = probe.problem(probe.packed, batch_loss, name)
        if problem is None:
            return name, None
    return usable[0], problem
