"""Dropout from integers has the distribution of torch's own."""

import pytest
import torch
from conftest import tiny_bert
from torch import nn

from rawtrain.fast import dropout

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


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
    kept = dropout.keep_mask(torch.Size([2**20]), 0.1, torch.float32)
    kept = kept.double() + 1  # 0: kept, 1: dropped
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
