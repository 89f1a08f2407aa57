"""The loss: a sum over labelled tokens, which the loop divides by their number in the whole step.

A token is labelled if its label is not -100. Only the sum can be cut into micro-batches: sums add
up to the sum over the whole step, means do not add up to its mean.

Letters for shapes, here and in every file: B rows, T sub-words of a row, C classes (the labels of a
tagger, the vocabulary of a masked language model), K labelled tokens.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from rawtrain.data.columns import IGNORED

Batch = dict[str, torch.Tensor]  # a micro-batch: what the model takes, each (B, T), and "labels"

# batch_loss(model, batch, labelled) -> (loss_sum, logits)
#   batch      "labels" int64 (B, T) and the model's inputs, all on the model's device
#   labelled   int64 (K,), the places of the labelled tokens in the rows laid end to end
#   loss_sum   (), summed over the labelled tokens and not averaged: the loop divides
#   logits     (K, C), of the labelled tokens alone; an evaluation takes its predictions from them
BatchLoss = Callable[[nn.Module, Batch, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def summed_cross_entropy(
    model: nn.Module, batch: Batch, labelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The usual `BatchLoss`; fast/head.py has one that computes the same for less."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits  # without labels: the model would return a mean, not a sum
    logits = logits.flatten(0, 1).index_select(0, labelled)
    return label_loss(logits, batch["labels"], labelled), logits


def label_loss(
    logits: torch.Tensor, labels: torch.Tensor, labelled: torch.Tensor, reduction: str = "sum"
) -> torch.Tensor:
    """Cross-entropy () of the logits (K, C), summed over the labelled tokens; "none": (K,)."""
    labels = labels.flatten().index_select(0, labelled)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # 16 bits are too few for exponentials
    return F.cross_entropy(logits.to(dtype), labels, reduction=reduction)


def labelled_tokens(batch: Batch) -> torch.Tensor:
    """Where the labelled tokens (K,) are; found on the host, so nothing waits for the device."""
    return (batch["labels"].flatten() != IGNORED).nonzero().squeeze(1)


def on_device(
    batch: Batch, labelled: torch.Tensor, device: torch.device
) -> tuple[Batch, torch.Tensor]:
    """Both on the device; from pinned memory the copies run beside the computation."""
    batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return batch, labelled.to(device, non_blocking=True)
