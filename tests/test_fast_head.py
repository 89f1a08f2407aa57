"""The head at some tokens has their logits and the gradients of the whole."""

import pytest
import torch
from conftest import tiny_bert

from rawtrain.fast.head import cross_entropy_at_labels, head_at


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


def test_the_last_layer_runs_at_the_positions_too():
    model, sizes = tiny_bert(), []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda *call: sizes.append(call[2].shape[:2]))
    with head_at(model, torch.tensor([2, 3, 11])):
        model(torch.randint(5, 60, (3, 7)))
    assert sizes == [(3, 7), (1, 3)]
