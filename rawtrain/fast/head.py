"""The head of a model at the labelled tokens alone.

A masked-LM head computes a logit for every word of the vocabulary at every token, and the loss
looks at 15 % of the tokens: the other logits are most of a step's work and nearly all its memory.

Shapes: B rows, T sub-words of a row, K labelled tokens, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rawtrain.loss import Batch, label_loss


def cross_entropy_at_labels(
    model: nn.Module, batch: Batch, labelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `BatchLoss` of `loss.summed_cross_entropy`, the same loss and logits (K, C), for less."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with head_at(model, labelled, batch["labels"].shape):
        logits = model(**inputs).logits[0]
    return label_loss(logits, batch["labels"], labelled), logits


@contextmanager
def head_at(model: nn.Module, positions: torch.Tensor, shape: torch.Size) -> Iterator[None]:
    """Within it, the model's head sees the hidden states at `positions` alone.

    positions: int64 (K,) into the rows of this shape (B, T) laid end to end. The logits become
    (1, K, C). It works for every model whose head takes the encoder's `last_hidden_state` token by
    token. Where the last layer is built like BERT's, it too runs at `positions` only, except for
    its keys and values, which all tokens need: 7 % less for a masked-LM step. Not where a model
    pads rows to a multiple of its window, and takes the padding off after its layers (Longformer).
    """

    def at_positions(hidden_states):
        if hidden_states.shape[:2] != shape:  # padded inside, or done in the last layer
            return hidden_states
        return hidden_states.flatten(0, 1).index_select(0, positions)[None]

    def keep_output(module, arguments, output):
        output["last_hidden_state"] = at_positions(output[0])
        return output

    def keep_attended(module, arguments, output):
        return at_positions(output[0]), *output[1:]

    def keep_residual(module, arguments):
        attended, residual = arguments
        return attended, at_positions(residual)

    encoder: Any = model.base_model
    hooks = [encoder.register_forward_hook(keep_output)]
    if last_attention := _last_attention_like_berts(model):
        hooks += [
            last_attention.self.register_forward_hook(keep_attended),
            last_attention.output.register_forward_pre_hook(keep_residual),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _last_attention_like_berts(model):
    """The last layer's attention, if it has the parts `self` and `output(attended, residual)`.

    None with gradient checkpointing: layers run again in backward, when the hooks are gone. Nor
    for BigBird, which exchanges its attention.
    """
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    exchanges_it = hasattr(model.base_model, "set_attention_type")
    if layers is None or model.is_activation_checkpointing or exchanges_it:
        return None
    attention = getattr(layers[-1], "attention", None)
    return attention if hasattr(attention, "self") and hasattr(attention, "output") else None
