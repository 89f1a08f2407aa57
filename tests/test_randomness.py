"""uniform: what a hash must show before masks may rest on it. All keys are fixed."""

import numpy as np
import pytest
import torch

from rawtrain.batches import row_order
from rawtrain.randomness import seed_dropout, uniform

NUM_ROWS, NUM_POSITIONS = 1000, 200
ROWS, POSITIONS = np.arange(NUM_ROWS)[:, None], np.arange(NUM_POSITIONS)
FOUR_SIGMA = 4 / (NUM_ROWS * NUM_POSITIONS) ** 0.5


def correlation(x, y):
    return np.corrcoef(x.ravel(), y.ravel())[0, 1]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**63, 2**64 - 1])
def test_uniform_numbers_fill_the_unit_interval_evenly(seed):
    numbers = uniform(seed, 0, 0, ROWS, POSITIONS)
    assert numbers.shape == (NUM_ROWS, NUM_POSITIONS)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 1 / 2) < FOUR_SIGMA * (1 / 12) ** 0.5
    assert abs(numbers.var() - 1 / 12) < FOUR_SIGMA * (1 / 180) ** 0.5
    counts = np.histogram(numbers, bins=256, range=(0, 1))[0]
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi_square - 255) < 4 * (2 * 255) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 16])
def test_neighbours_are_uncorrelated(lag):
    numbers = uniform(7, 0, 0, ROWS, POSITIONS)
    assert abs(correlation(numbers[:, lag:], numbers[:, :-lag])) < FOUR_SIGMA
    assert abs(correlation(numbers[lag:], numbers[:-lag])) < FOUR_SIGMA


@pytest.mark.parametrize("other", [(8, 0, 0), (7, 1, 0), (7, 0, 1), (2**63 + 7, 0, 0)])
def test_other_seeds_epochs_and_draws_are_uncorrelated(other):
    numbers = uniform(7, 0, 0, ROWS, POSITIONS)
    others = uniform(*other, ROWS, POSITIONS)
    assert abs(correlation(numbers, others)) < FOUR_SIGMA
    assert not np.isin(numbers, others).any()


def test_row_and_position_are_not_interchangeable():
    square = uniform(7, 0, 0, np.arange(200)[:, None], np.arange(200))
    assert not np.isin(square[np.triu_indices(200, 1)], square.T[np.triu_indices(200, 1)]).any()


def test_without_counters_it_is_the_first_number_of_splitmix64():
    published = 6457827717110365317  # of the seed 1234567, in the task "splitmix64" of Rosetta Code
    assert uniform(1234567) == (published >> 11) / 2**53


def test_a_number_depends_on_its_own_key_alone():
    numbers = uniform(7, 3, 1, ROWS, POSITIONS)
    assert uniform(7, 3, 1, 12, 34) == numbers[12, 34]
    assert uniform(7, 3, 1, np.int32(12), np.array([34], dtype=np.int32)) == numbers[12, 34]


def test_neighbouring_seeds_share_orders_of_rows_but_not_dropout(settings):
    assert (row_order(50, seed=42, epoch=1) == row_order(50, seed=43, epoch=0)).all()
    assert (row_order(50, seed=42, epoch=0) != row_order(50, seed=43, epoch=0)).any()
    draws = []
    for seed, step in ((42, 1), (42, 2), (43, 1), (42, 1)):
        seed_dropout(settings(seed=seed), step)
        draws.append(torch.rand(1).item())
    assert len(set(draws[:3])) == 3 and draws[0] == draws[3]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(OverflowError):
        uniform(seed, 0)
