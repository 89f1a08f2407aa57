"""What stands in rawtrain/fast changes cost, and nothing else beyond rounding."""

import pytest
import torch
from conftest import padded, random_rows, tiny_bert
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification, BertConfig, BertForMaskedLM

from rawtrain.batches import TrainingBatches
from rawtrain.data.columns import Columns, offsets_of
from rawtrain.fast import cpu, dropout
from rawtrain.fast.attention import ROW_ATTENTION, row_attention, set_attention
from rawtrain.fast.head import cross_entropy_at_labels, head_at
from rawtrain.fast.vocabulary import CompactEmbedding, compact_vocabulary
from rawtrain.loop import train
from rawtrain.optim import make_optimizer

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


# Dropout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_units_are_dropped_with_their_probability_and_the_rest_is_scaled(dtype, probability):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, dtype=dtype, requires_grad=True)
    layer = dropout.FastDropout(probability)
    dropped = layer(x)
    share = (dropped == 0).double().mean().item()
    # 5 standard deviations of a million draws, and the 15 bits of the threshold
    assert share == pytest.approx(probability, abs=5 * 0.5 / 1000 + 2**-15)
    kept = torch.tensor(1 / (1 - probability), dtype=dtype)
    assert set(dropped.unique().tolist()) == {0.0, kept.item()}
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())  # the same units, the same scale


def test_dropped_units_are_independent_of_their_neighbours():
    torch.manual_seed(0)
    kept = dropout.keep_mask((2**20,), 0.1, torch.float32).double() + 1  # 0: kept, 1: dropped
    centred = kept - kept.mean()
    for lag in (1, 2, 3, 4, 5, 8, 64):
        correlation = (centred[lag:] * centred[:-lag]).mean() / centred.square().mean()
        assert abs(correlation.item()) < 5 / 2**10  # 5 standard deviations


def test_dropout_is_a_function_of_the_global_generator_and_does_nothing_in_evaluation():
    layer, x = dropout.FastDropout(0.1), torch.randn(5, 7, 3)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first) and not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


def test_only_the_dropout_of_torch_is_replaced():
    model = tiny_bert(dropout=0.1)
    own = nn.Dropout1d(0.1)
    model.add_module("own", own)
    dropout.use_fast_dropout(model)
    kinds = {type(module) for module in model.modules()}
    assert dropout.FastDropout in kinds and nn.Dropout not in kinds and type(own) is nn.Dropout1d


# Attention


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
    kept = dropout.keep_mask((12, 5, 5), 0.4, torch.float32)
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


def test_the_name_of_the_attention_is_not_saved_with_the_model(tmp_path):
    model = tiny_bert()
    set_attention(model, ROW_ATTENTION)
    assert model.config._attn_implementation == ROW_ATTENTION
    model.save_pretrained(tmp_path)
    assert ROW_ATTENTION not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation != ROW_ATTENTION


# The head


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_head_at_some_tokens_has_their_logits_and_the_same_gradients(checkpointing):
    model = tiny_bert().train()
    if checkpointing:
        model.activation_checkpointing_enable()
    input_ids, positions = torch.randint(5, 60, (3, 7)), torch.tensor([2, 3, 11, 20])
    gradients = []
    for at_positions in (False, True):
        if at_positions:
            with head_at(model, positions):
                logits = model(input_ids).logits[0]
        else:
            logits = model(input_ids).logits.flatten(0, 1)[positions]
        model.zero_grad()
        logits.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()] + [logits.detach()])
    for found, same in zip(*gradients, strict=True):  # float32 sums in another order
        torch.testing.assert_close(found, same, rtol=1e-5, atol=1e-6)


def test_nothing_of_the_head_at_some_tokens_stays_behind():
    model = tiny_bert().eval()
    input_ids = torch.randint(5, 60, (3, 7))
    expected = model(input_ids).logits
    with pytest.raises(IndexError), head_at(model, torch.tensor([99])):
        model(input_ids)
    assert torch.equal(model(input_ids).logits, expected)


def test_a_batch_without_labels_has_the_loss_0_and_no_gradient():
    model, ids = tiny_bert().train(), torch.randint(5, 60, (2, 6))
    batch = {"input_ids": ids, "labels": torch.full_like(ids, -100)}
    loss, logits = cross_entropy_at_labels(model, batch, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and logits.shape == (0, 5)
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


# The compact vocabulary


def columns_of(ids):
    return Columns({"input_ids": torch.tensor(ids).numpy()}, offsets_of([len(ids)]))


def trained(settings, compact, num_steps=4):
    """A model after some steps on the words 7 to 19, and what it was before the last of them."""
    chosen = settings(weight_decay=0.1, learning_rate=0.01, fast=compact)
    model = tiny_bert()
    torch.manual_seed(1)
    ids = torch.randint(7, 20, (num_steps, 3, 5))
    with compact_vocabulary(model, columns_of(ids.flatten().tolist()), chosen):
        optimizer = make_optimizer(model, chosen)
        for step in ids:
            model.train()(step, labels=step % 5).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seen = model.eval()(torch.arange(60)[None, :40]).logits.detach()
        saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return model, seen, saved


def test_a_compact_vocabulary_learns_the_same_and_decays_absent_words_alike(settings):
    (compact, seen, saved), (whole, expected, _) = (
        trained(settings, flag) for flag in (True, False)
    )
    torch.testing.assert_close(seen, expected)  # with words that training never saw
    assert saved.keys() == whole.state_dict().keys() == compact.state_dict().keys()
    for name, parameter in whole.state_dict().items():
        # the decay of absent words is a product of float32 factors, taken in another order
        torch.testing.assert_close(compact.state_dict()[name], parameter, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(saved[name], parameter, rtol=1e-6, atol=1e-7)
    table = compact.get_input_embeddings()
    assert type(table) is nn.Embedding
    absent = table.weight[30] / tiny_bert().get_input_embeddings().weight[30]
    assert absent[0].item() == pytest.approx((1 - 0.01 * 0.1) ** 4, rel=1e-6)


def test_fewer_rows_are_trained_and_a_loaded_state_takes_their_place(settings):
    model, other = tiny_bert(), tiny_bert(seed=1)
    with compact_vocabulary(model, columns_of([5, 9, 9]), settings()):
        table = model.get_input_embeddings()
        assert type(table) is CompactEmbedding
        assert len(table.weight) == 4  # two words, the padding, and the row of the absent
        model.load_state_dict(other.state_dict())
    for name, parameter in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], parameter)


def test_a_table_that_the_decoder_shares_stays_whole(settings):
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24}
    model = BertForMaskedLM(BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=2))
    with compact_vocabulary(model, columns_of([5, 9]), settings()):
        assert type(model.get_input_embeddings()) is nn.Embedding


# The process


def test_float32_products_stay_float32_or_the_switch_is_put_back(monkeypatch):
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        cpu.use_fastest_true_float32()
        x, weight = torch.randn(300, 200), torch.randn(100, 200)
        error = F.linear(x, weight) - x.double() @ weight.double().T
        assert error.norm() / error.numel() ** 0.5 < 1e-4  # bfloat16: 0.05
        matmul.fp32_precision = before
        monkeypatch.setattr(cpu, "_multiplies_in_float32", lambda: False)
        cpu.use_fastest_true_float32()
        assert matmul.fp32_precision == before
    finally:
        matmul.fp32_precision = before


def test_a_bfloat16_product_is_told_from_a_float32_one(monkeypatch):
    assert cpu._multiplies_in_float32()
    rounded = lambda a, b: a.bfloat16().float() @ b.bfloat16().float().T  # noqa: E731
    monkeypatch.setattr(cpu.F, "linear", rounded)
    assert not cpu._multiplies_in_float32()


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
