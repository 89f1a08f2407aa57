"""Packed rows, and the head at labelled tokens, on tiny random models of every usual kind."""

import logging

import numpy as np
import pytest
import torch
from conftest import token_source
from transformers import AutoModelForTokenClassification

from rawtrain import MlmSettings, NerSettings
from rawtrain.collate.pack import PackedRows
from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.probe import packed_rows
from rawtrain.collate.route import Route, choose_route, make_batches
from rawtrain.fast.attention import ROW_ATTENTION, row_attention
from rawtrain.fast.dropout import FastDropout
from rawtrain.loop import train
from rawtrain.loss import labelled_tokens, summed_cross_entropy
from rawtrain.study.tiny import tiny_model, tiny_tokenizer

PACKED = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "albert",
    "modernbert",
    "mpnet",
    "ernie",
    "data2vec-text",
    "roformer",
]
PADDED = ["deberta-v2", "convbert"]


def random_model(task, architecture="bert"):
    """Random weights large enough that a wrong mask or position shows; no dropout."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 90, "max_position_embeddings": 70, "initializer_range": 0.3}
    sizes |= {"classifier_dropout_prob": 0.0, "seq_classif_dropout": 0.0}
    if architecture == "modernbert":
        sizes |= {"local_attention": 8, "global_attn_every_n_layers": 2}
    elif architecture == "deberta-v2":
        sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
    else:
        sizes |= {"embedding_size": 16}
    return tiny_model(task, architecture, dropout=0.0, **sizes).train()


def forward_and_backward(model, batch, batch_loss):
    """The loss, the logits in an order of their own, and every gradient by its name."""
    labelled = labelled_tokens(batch)
    loss, logits = batch_loss(model, batch, labelled)
    model.zero_grad()
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    labels = batch["labels"].flatten()[labelled]
    in_order = np.lexsort((logits.detach()[:, 0].numpy(), labels.numpy()))
    return loss.item(), logits.detach()[in_order], gradients


@pytest.mark.parametrize("task", ["ner", "mlm"])
@pytest.mark.parametrize("architecture", PACKED)
def test_packed_rows_give_the_logits_loss_and_gradients_of_padded_ones(
    architecture, task, small_tokenizer
):
    model, source = random_model(task, architecture), token_source(task, small_tokenizer)
    rows = np.arange(9)
    padded = PaddedRows(source, small_tokenizer)(rows)
    expected = forward_and_backward(model, padded, summed_cross_entropy)

    route = choose_route(model, source, small_tokenizer, NerSettings())
    assert route.packs
    model.train()
    packed = packed_rows(source, small_tokenizer, model)(rows)
    assert len(packed["input_ids"]) < 9
    for batch in (packed, padded):  # the chosen attention must be right for both
        loss, logits, gradients = forward_and_backward(model, batch, route.batch_loss)
        assert loss == pytest.approx(expected[0], rel=1e-5)
        torch.testing.assert_close(logits, expected[1], rtol=1e-5, atol=1e-5)
        assert gradients.keys() == expected[2].keys()
        for name, gradient in gradients.items():  # float32 sums in another order
            scale = expected[2][name].abs().max().item()
            torch.testing.assert_close(
                gradient, expected[2][name], rtol=0, atol=1e-5 * scale + 1e-5
            )


@pytest.mark.parametrize("architecture", PADDED)
def test_a_model_that_cannot_be_packed_is_trained_padded_and_a_line_says_so(
    architecture, small_tokenizer, caplog
):
    model, source = random_model("ner", architecture), token_source("ner", small_tokenizer)
    batch = PaddedRows(source, small_tokenizer)(np.arange(9))
    expected = forward_and_backward(model, batch, summed_cross_entropy)
    with caplog.at_level(logging.INFO, "rawtrain"):
        route = choose_route(model, source, small_tokenizer, NerSettings())
    assert not route.packs
    assert "rows are padded: " in caplog.text
    model.train()
    loss, logits, _ = forward_and_backward(model, batch, route.batch_loss)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(logits, expected[1])


def test_rows_of_a_tokenizer_without_a_padding_token_are_padded_with_what_is_masked():
    model, with_pad, without_pad = random_model("ner"), tiny_tokenizer(), tiny_tokenizer()
    without_pad.pad_token = None
    assert without_pad.pad_token_id is None
    losses = []
    for tokenizer in (with_pad, without_pad):
        source = token_source("ner", with_pad)
        route = choose_route(model, source, tokenizer, NerSettings())
        assert route.packs
        batch = PaddedRows(source, tokenizer)(np.arange(9))
        losses.append(forward_and_backward(model, batch, route.batch_loss)[0])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("task", ["ner", "mlm"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_whole_run_learns_the_same_packed_padded_and_with_nothing_fast(
    task, bf16, small_tokenizer
):
    """Two epochs with accumulation and a ragged tail, evaluated in between, at dropout 0."""
    kind = {"ner": NerSettings, "mlm": MlmSettings}[task]
    histories, layouts = [], []
    for flags in ({}, {"padding": True}, {"fast": False}):
        settings = kind(
            **flags,
            bf16=bf16,
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=1,
            num_train_epochs=2.0,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=3,
            learning_rate=1e-3,
            eval_strategy="epoch",
        )
        model, source = random_model(task), token_source(task, small_tokenizer, num_rows=26)
        sources = {"train": source, "validation": source}
        batches, batch_loss = make_batches(model, sources, small_tokenizer, settings)
        packs = isinstance(batches["train"].collate, PackedRows)
        in_order = np.concatenate(batches["validation"].batch_rows).tolist() == list(range(26))
        layouts.append((packs, not in_order))
        histories.append(
            train(
                model,
                batches["train"],
                settings,
                eval_batches=batches["validation"],
                batch_loss=batch_loss,
            )
        )
    assert layouts == [(True, True), (False, True), (False, False)]
    # float32 sums in another order, grown over 6 steps; bfloat16 rounds to 3 digits
    tolerance = 0.03 if bf16 else 1e-4
    for entries in zip(*histories, strict=True):
        for name in ("loss", "grad_norm", "eval_loss", "train_loss"):
            values = [entry.get(name, 0) for entry in entries]
            assert values == pytest.approx(values[:1] * 3, rel=tolerance)


def test_a_saved_model_is_the_same_kind_of_model_whatever_made_it_fast(small_tokenizer, tmp_path):
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    before = model.state_dict()
    choose_route(model, source, small_tokenizer, NerSettings())
    assert model.config._attn_implementation == ROW_ATTENTION
    model.save_pretrained(tmp_path)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], before[name]) for name in before)
    batch = PaddedRows(source, small_tokenizer)(np.arange(5))
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    torch.testing.assert_close(model.eval()(**inputs).logits, loaded.eval()(**inputs).logits)


def test_nothing_is_changed_in_a_model_that_is_to_match_trainer(small_tokenizer):
    for settings in (NerSettings(match_trainer=True), NerSettings(fast=False)):
        model, source = random_model("ner"), token_source("ner", small_tokenizer)
        attention = model.config._attn_implementation
        route = choose_route(model, source, small_tokenizer, settings)
        assert not route.packs and not route.sorts
        assert model.config._attn_implementation == attention
        assert not any(isinstance(module, FastDropout) for module in model.modules())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("bf16", [False, True])
def test_packed_rows_give_the_loss_of_padded_ones_on_a_gpu(bf16, small_tokenizer):
    losses = []
    for padding in (False, True):
        settings = NerSettings(bf16=bf16, padding=padding, max_steps=3, logging_steps=1)
        model, source = random_model("ner").cuda(), token_source("ner", small_tokenizer)
        batches, batch_loss = make_batches(model, {"train": source}, small_tokenizer, settings)
        assert isinstance(batches["train"].collate, PackedRows) is not padding
        history = train(model, batches["train"], settings, batch_loss=batch_loss)
        losses.append([entry["loss"] for entry in history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=0.03 if bf16 else 1e-4)


def raises_for_short_rows(model):
    forward = model.forward

    def picky(attention_mask, **inputs):
        if attention_mask.sum(1).min() < 5:
            raise IndexError("a row of fewer than 5 tokens")
        return forward(attention_mask=attention_mask, **inputs)

    model.forward = picky


def raises_for_many_tokens(model):
    def limited(module, arguments, inputs):
        if inputs["input_ids"].numel() > 100:
            raise RuntimeError("more than 100 tokens")

    model.register_forward_pre_hook(limited, with_kwargs=True)


def cannot_be_copied(model):
    model.scale = model.classifier.weight * 2  # torch copies no tensor that was computed


def has_logits_of_zero(model):
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)


def has_the_same_logits_everywhere(model):
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.normal_(model.classifier.bias)


def has_nan_logits(model):
    model.classifier.bias.data[0] = torch.nan


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (raises_for_short_rows, "the model raises IndexError for a few rows of the data"),
        (raises_for_many_tokens, "the model raises RuntimeError for a few rows of the data"),
        (cannot_be_copied, "the model raises RuntimeError for a few rows of the data"),
        (has_logits_of_zero, "the model's logits are the same for every token"),
        (has_the_same_logits_everywhere, "the model's logits are the same for every token"),
        (has_nan_logits, "the model's logits are not finite"),
    ],
)
def test_a_model_whose_layouts_cannot_be_compared_is_left_as_it_is_and_padded(
    spoilt, reason, small_tokenizer, caplog
):
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    spoilt(model)
    own = model.config._attn_implementation
    with caplog.at_level(logging.INFO, "rawtrain"):
        route = choose_route(model, source, small_tokenizer, NerSettings())
    assert route == Route(summed_cross_entropy)  # neither packed nor sorted
    assert model.config._attn_implementation == own
    assert not any(isinstance(module, FastDropout) for module in model.modules())
    (line,) = caplog.messages
    assert line.startswith(f"rows are padded: {reason}; ")


def test_a_mask_that_leaks_a_little_is_noticed(small_tokenizer, monkeypatch):
    monkeypatch.setattr("rawtrain.collate.pack.HIDDEN", -7.0)  # e**-7: a weight of 0.001
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    assert not choose_route(model, source, small_tokenizer, NerSettings()).packs


def test_sentences_of_one_row_that_see_each_other_are_noticed(small_tokenizer, monkeypatch):
    laid_out = PackedRows.laid_out

    def seeing(self, *arguments):
        batch, slots = laid_out(self, *arguments)
        is_token = torch.zeros(batch["input_ids"].numel(), dtype=torch.bool)
        is_token = is_token.index_fill_(0, torch.from_numpy(slots), True)
        is_token = is_token.view_as(batch["input_ids"])[:, None]
        batch["attention_mask"][is_token[:, :, :, None] & is_token[:, :, None]] = 0
        return batch, slots

    monkeypatch.setattr(PackedRows, "laid_out", seeing)
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    assert not choose_route(model, source, small_tokenizer, NerSettings()).packs


def test_a_head_that_looks_at_other_tokens_is_given_whole_rows(small_tokenizer):
    class Mixing(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x + x.mean(1, keepdim=True))

    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    model.classifier.__class__ = Mixing
    route = choose_route(model, source, small_tokenizer, NerSettings())
    assert route.batch_loss is summed_cross_entropy
    assert not route.packs and not route.sorts  # its numbers depend on the padding as it is


@pytest.mark.parametrize("padding", [False, True])
def test_an_attention_that_is_more_than_it_hands_over_stays_the_models_own(
    padding, small_tokenizer, monkeypatch
):
    def half(module, query, key, value, attention_mask, **more):
        output, _ = row_attention(module, query, key, value, attention_mask, **more)
        return output / 2, None

    monkeypatch.setattr("rawtrain.fast.attention.row_attention", half)
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    own = model.config._attn_implementation
    route = choose_route(model, source, small_tokenizer, NerSettings(padding=padding))
    assert model.config._attn_implementation == own
    assert route.packs is not padding  # torch's own attention takes the mask as well


def test_a_model_that_sees_its_padding_is_evaluated_in_the_order_of_the_data(
    small_tokenizer, caplog
):
    model, source = random_model("ner", "fnet"), token_source("ner", small_tokenizer)
    with caplog.at_level(logging.INFO, "rawtrain"):
        route = choose_route(model, source, small_tokenizer, NerSettings())
    assert not route.packs and not route.sorts
    assert "padding changes this model's logits" in caplog.text


def test_the_route_says_what_is_made_with_it(small_tokenizer):
    lengths = token_source("ner", small_tokenizer, 26).columns.lengths
    for flags, sorted_steps in (({}, False), ({"padding": True}, True), ({"fast": False}, False)):
        settings = NerSettings(
            **flags, per_device_train_batch_size=4, gradient_accumulation_steps=3
        )
        model, source = random_model("ner"), token_source("ner", small_tokenizer, 26)
        sources = {"train": source, "validation": source}
        batches, _ = make_batches(model, sources, small_tokenizer, settings)
        has_fast_dropout = any(isinstance(module, FastDropout) for module in model.modules())
        assert has_fast_dropout == settings.fast
        train_batches, eval_batches = batches["train"], batches["validation"]
        rows = np.concatenate(train_batches.rows(1))
        assert (np.diff(lengths[rows]) >= 0).all() == sorted_steps
        rows = np.concatenate([eval_batches.rows(i) for i in range(len(eval_batches))])
        assert (np.diff(lengths[rows]) <= 0).all() == settings.fast
        assert ("attention_mask" in train_batches[1][0]) and (
            train_batches[1][0]["attention_mask"].dim() == (4 if flags == {} else 2)
        )


def test_looking_at_a_model_does_not_change_it(small_tokenizer):
    model, source = random_model("ner"), token_source("ner", small_tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    choose_route(model, source, small_tokenizer, NerSettings())
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
