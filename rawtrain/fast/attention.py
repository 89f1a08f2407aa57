"""Attention over rows that hold several sentences, in plain matrix products.

transformers hands queries, keys and values to the function registered under a model's
`attn_implementation`. This one differs from its "sdpa" in cost alone. torch's CPU kernel for
attention has no dropout, so training falls back to a slow form of it; here softmax, dropout and the
two products are written out, with a backward that keeps no more than it needs. That takes a tenth
off a whole step.

Shapes: B rows, T sub-words of a row, H heads, D width of a head.
"""

import contextlib

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from rawtrain.fast.dropout import keep, keep_mask
from rawtrain.models.loading import without_warnings

ROW_ATTENTION = "rawtrain_rows"


def set_attention(model: PreTrainedModel, name: str) -> None:
    """Let the model attend with `row_attention` (ROW_ATTENTION) or another registered function.

    A model that takes no such function stays as it is.
    """
    AttentionInterface.register(ROW_ATTENTION, row_attention)
    AttentionMaskInterface.register(ROW_ATTENTION, eager_mask)  # makes floats of a padding mask
    with contextlib.suppress(ValueError), without_warnings():
        model.set_attn_implementation(name)


def row_attention(
    module, query, key, value, attention_mask, dropout=0.0, scaling=None, sliding_window=None, **_
):
    """The attention output (B, T, H, D), and None for the weights.

    query, key, value: (B, H, T, D). attention_mask: None or what is added to the scores, broadcast
    to (B, H, T, T). sliding_window: a token sees those fewer than so many places away. What else
    a model hands over is ignored; collate/probe.py finds out whether it matters.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = _bias(attention_mask, sliding_window, query)
    with torch.autocast(device, enabled=False):
        if device == "cpu":
            return _RowAttention.apply(query, key, value, bias, dropout, scaling), None
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, scale=scaling
        )
        return output.transpose(1, 2).contiguous(), None


def _bias(attention_mask, sliding_window, query):
    """What is added to the scores: mask and window, in the query's dtype and finite in it.

    Not -inf: a padding slot in whose window all tokens are hidden would have NaN for weights, and
    NaN spreads even with weight 0.
    """
    bias, length = attention_mask, query.shape[2]
    if sliding_window is not None and sliding_window < length:
        positions = torch.arange(length, device=query.device)
        outside = (positions[:, None] - positions).abs() >= sliding_window
        window = torch.zeros_like(outside, dtype=query.dtype).masked_fill_(outside, -torch.inf)
        bias = window if bias is None else bias.to(query.dtype) + window
    if bias is None:
        return None
    return bias.to(query.dtype).clamp(min=torch.finfo(query.dtype).min)


class _RowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, bias, dropout, scaling):
        B, H, T, D = query.shape
        query, key, value = (x.reshape(B * H, T, D) for x in (query, key, value))
        query = query * scaling  # D numbers a token, and not T
        scores = torch.bmm(query, key.transpose(1, 2))
        if bias is not None:
            scores.view(B, H, T, T).add_(bias)
        weights = torch.softmax(scores, -1)
        mask, kept = None, weights
        if dropout:
            mask = keep_mask(weights.shape, dropout, weights.dtype)
            kept = keep(weights, mask)
        output = torch.bmm(kept, value).mul_(1 / (1 - dropout))
        ctx.save_for_backward(query, key, value, weights, mask)
        ctx.shape, ctx.dropout, ctx.scaling = (B, H, T, D), dropout, scaling
        return output.view(B, H, T, D).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, weights, mask = ctx.saved_tensors
        B, H, T, D = ctx.shape
        gradient = gradient.transpose(1, 2).reshape(B * H, T, D) * (1 / (1 - ctx.dropout))
        kept, d_weights = weights, torch.bmm(gradient, value.transpose(1, 2))
        if mask is not None:  # drawn once: what was dropped has no gradient
            kept, d_weights = keep(weights, mask), keep(d_weights, mask)
        d_value = torch.bmm(kept.transpose(1, 2), gradient)
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_query = torch.bmm(d_scores, key).mul_(ctx.scaling)
        d_key = torch.bmm(d_scores.transpose(1, 2), query)
        return *(x.view(B, H, T, D) for x in (d_query, d_key, d_value)), None, None, None
