"""Row attention equals torch's, with and without dropout."""

import pytest
import torch
from conftest import padded, random_rows, tiny_bert
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification

from rawtrain.batches import TrainingBatches
from rawtrain.fast import dropout
from rawtrain.fast.attention import ROW_ATTENTION, row_attention, set_attention
from rawtrain.loop import train


def attention_inputs(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    query, key, value = (
        torch.randn(3, 5, 4, 8, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)
    )
    sentence = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 1, 2, 2, 2]])
    apart = sentence[:, None, :, None] != sentence[:, None, None, :]
    return query, key, value, torch.zeros(3, 1, 5, 5).masked_fill(apart, -3.3e38)


def run_attention(function, query, key, value):
    output = function(query, key, value)
    torch.manual_seed(1)
    gradients = torch.autograd.grad(output, (query, key, value), torch.randn(output.shape))
    return output, *gradients


@pytest.mark.parametrize("masked", [True, False])
def test_row_attention_equals_scaled_dot_product_attention(masked):
    query, key, value, mask = attention_inputs(torch.float64)
    mask = mask.double() if masked else None

    def expected(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, mask, scale=0.3).transpose(1, 2)

    def ours(query, key, value):
        return row_attention(None, query, key, value, mask, scaling=0.3)[0]

    found, same = (run_attention(function, query, key, value) for function in (ours, expected))
    for one, other in zip(found, same, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_row_attention_with_dropout_has_the_gradient_of_its_own_mask(monkeypatch):
    query, key, value, mask = attention_inputs()
    kept = dropout.keep_mask(torch.Size([12, 5, 5]), 0.4, torch.float32)
    monkeypatch.setattr("rawtrain.fast.attention.keep_mask", lambda *_: kept)

    def expected(query, key, value):
        weights = torch.softmax(query @ key.transpose(2, 3) * 0.3 + mask, -1)
        weights = weights * (kept.view(3, 4, 5, 5) != 0) / 0.6
        return (weights @ value).transpose(1, 2)

    def ours(query, key, value):
        return row_attention(None, query, key, value, mask, dropout=0.4, scaling=0.3)[0]

    found, same = (run_attention(function, query, key, value) for function in (ours, expected))
    for one, other in zip(found, same, strict=True):  # float32 sums in another order
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_sliding_window_hides_what_is_farther_away():
    query, key, value, _ = attention_inputs(torch.float64)
    places = torch.arange(5)
    window = (places[:, None] - places).abs() < 3
    expected = F.scaled_dot_product_attention(query, key, value, window).transpose(1, 2)
    found, _ = row_attention(None, query, key, value, None, sliding_window=3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_slot_that_sees_nothing_has_finite_numbers_in_16_bits(dtype):
    """Padding longer than a sliding window; float32's lowest number is -inf in 16 bits."""
    query, key, value, _ = attention_inputs(dtype)
    mask = torch.zeros(3, 1, 5, 5).masked_fill(torch.arange(5) > 1, torch.finfo(torch.float32).min)
    output, _ = row_attention(None, query, key, value, mask, sliding_window=2)
    assert output.isfinite().all()


def test_under_autocast_the_products_are_in_16_bits():
    query, key, value, mask = attention_inputs()
    expected, _ = row_attention(None, query, key, value, mask)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = row_attention(None, query, key, value, mask)
    assert output.dtype == torch.bfloat16 and expected.dtype == torch.float32
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)  # 8 bits


def test_the_name_of_the_attention_is_not_saved_with_the_model(tmp_path):
    model = tiny_bert()
    set_attention(model, ROW_ATTENTION)
    assert model.config._attn_implementation == ROW_ATTENTION
    model.save_pretrained(tmp_path)
    assert ROW_ATTENTION not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation != ROW_ATTENTION


def test_dropout_and_attention_draw_the_same_again_when_activations_are_recomputed(settings):
    losses = []
    for checkpointing in (False, True):
        chosen = settings(gradient_checkpointing=checkpointing, logging_steps=1, max_steps=4)
        model = tiny_bert(dropout=0.1)
        set_attention(model, ROW_ATTENTION)
        dropout.use_fast_dropout(model)
        history = train(model, TrainingBatches(12, chosen, padded(random_rows(12))), chosen)
        losses.append([entry["loss"] for entry in history if "loss" in entry])
    assert losses[0] == losses[1]
