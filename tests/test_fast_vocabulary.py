"""A compact vocabulary learns what the whole one would."""

import pytest
import torch
from conftest import tiny_bert
from torch import nn

from rawtrain.data.columns import Columns, offsets_of
from rawtrain.fast.vocabulary import CompactEmbedding, compact_vocabulary
from rawtrain.optim import decay_groups, make_optimizer
from rawtrain.study.tiny import tiny_model


def columns_of(ids):
    return Columns({"input_ids": torch.tensor(ids).numpy()}, offsets_of([len(ids)]))


def trained(settings, compact, num_steps=4):
    """A model after some steps on the words 7 to 19, and what it was before the last of them."""
    chosen = settings(weight_decay=0.1, learning_rate=0.01, fast=compact)
    model = tiny_bert()
    torch.manual_seed(1)
    ids = torch.randint(7, 20, (num_steps, 3, 5))
    ids[:, :, 0] = 0  # the pad token, whose row has no gradient
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


def test_with_another_optimizer_than_adamw_the_table_stays_whole(settings, monkeypatch):
    def adam(model, settings):
        return torch.optim.Adam(decay_groups(model, settings.weight_decay), settings.learning_rate)

    monkeypatch.setattr("rawtrain.fast.vocabulary.make_optimizer", adam)
    monkeypatch.setitem(globals(), "make_optimizer", adam)  # of `trained`
    compact, whole = (trained(settings, flag)[0] for flag in (True, False))
    for name, parameter in whole.state_dict().items():
        assert torch.equal(compact.state_dict()[name], parameter)
    before = tiny_bert().get_input_embeddings().weight[30]
    assert not torch.equal(whole.get_input_embeddings().weight[30], before)  # an absent word


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
    model = tiny_model("mlm")
    with compact_vocabulary(model, columns_of([5, 9]), settings()):
        assert type(model.get_input_embeddings()) is nn.Embedding
