"""The head at some tokens has their logits and the gradients of the whole."""

import copy

import pytest
import torch
from conftest import tiny_bert

from rawtrain.fast.head import cross_entropy_at_labels, head_at
from rawtrain.loss import labelled_tokens, summed_cross_entropy
from rawtrain.study.tiny import tiny_model


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_head_at_some_tokens_has_their_logits_and_the_same_gradients(checkpointing):
    model = tiny_bert().train()
    if checkpointing:
        model.activation_checkpointing_enable()
    input_ids, positions = torch.randint(5, 60, (3, 7)), torch.tensor([2, 3, 11, 20])
    gradients = []
    for at_positions in (False, True):
        if at_positions:
            with head_at(model, positions, input_ids.shape):
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
    with pytest.raises(IndexError), head_at(model, torch.tensor([99]), (3, 7)):
        model(input_ids)
    assert torch.equal(model(input_ids).logits, expected)


def test_a_batch_without_labels_has_the_loss_0_and_no_gradient():
    model, ids = tiny_bert().train(), torch.randint(5, 60, (2, 6))
    batch = {"input_ids": ids, "labels": torch.full_like(ids, -100)}
    loss, logits = cross_entropy_at_labels(model, batch, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and logits.shape == (0, 5)
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_the_last_layer_runs_at_the_positions_too():
    model, sizes = tiny_bert(), []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda *call: sizes.append(call[2].shape[:2]))
    with head_at(model, torch.tensor([2, 3, 11]), (3, 7)):
        model(torch.randint(5, 60, (3, 7)))
    assert sizes == [(3, 7), (1, 3)]


@pytest.mark.parametrize(
    ("architecture", "length", "sizes"),
    [
        *(("longformer", length, {"attention_window": 8}) for length in (8, 11, 16)),
        # sparse for rows of more than 28 tokens; a shorter one changes the attention in a forward
        *(
            ("big_bird", length, {"block_size": 4, "num_random_blocks": 1})
            for length in (8, 29, 32)
        ),
    ],
)
def test_the_loss_at_labels_is_that_of_all_tokens_where_a_model_pads_inside(
    architecture, length, sizes
):
    torch.manual_seed(0)
    model = tiny_model("ner", architecture, dropout=0.0, **sizes).eval()
    ids = torch.randint(5, 60, (3, length))
    labels = torch.randint(0, 5, ids.shape).where(torch.rand(ids.shape) < 0.4, -100)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    arguments = copy.deepcopy(model), batch, labelled_tokens(batch)
    loss, logits = cross_entropy_at_labels(model, *arguments[1:])
    expected_loss, expected_logits = summed_cross_entropy(*arguments)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(logits, expected_logits)
