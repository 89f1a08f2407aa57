"""The head of a model at the labelled tokens alone.

A masked-LM head computes a logit for every word of the vocabulary at every token, and the loss
looks at 15 % of the tokens: the other logits are most of a step's work and nearly all its memory.
"""

from contextlib import contextmanager

from rawtrain.loop import label_loss


def cross_entropy_at_labels(model, batch, labelled):
    """As `loop.summed_cross_entropy`: the same loss and the same logits (K, C), for less."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with head_at(model, labelled):
        logits = model(**inputs).logits[0]
    return label_loss(logits, batch["labels"], labelled), logits


@contextmanager
def head_at(model, positions):
    """Within it, the model's head sees the hidden states at `positions` alone.

    positions: int64 (K,) into the rows (B, T) laid end to end. The logits become (1, K, C). It
    works for every model whose head takes the encoder's `last_hidden_state` token by token.
    """

    def keep(module, arguments, output):
        hidden_states = output[0].flatten(0, 1).index_select(0, positions)
        output["last_hidden_state"] = hidden_states[None]
        return output

    hook = model.base_model.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
