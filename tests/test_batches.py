import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from conftest import padded, random_rows
from hypothesis import given
from hypothesis import strategies as st

from rawtrain.batches import EvaluationBatches, TrainingBatches, prepared, row_order
from rawtrain.config import NerSettings

CPU = torch.device("cpu")


def row_batches(num_rows, batch_size, accumulation, seed=42, data_seed=None):
    settings = NerSettings(
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        seed=seed,
        data_seed=data_seed,
    )
    return TrainingBatches(num_rows, settings, lambda rows, epoch: (epoch, rows.tolist()))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_is_every_row_once_in_the_order_of_a_permutation(rows, size, accumulation, epoch):
    batches = row_batches(rows, size, accumulation)
    first = epoch * batches.steps_per_epoch + 1
    steps = [batches[step] for step in range(first, first + batches.steps_per_epoch)]
    micro_batches = [micro_batch for step in steps for micro_batch in step]
    assert {number for number, _ in micro_batches} == {epoch}
    drawn = [row for _, chosen in micro_batches for row in chosen]
    assert drawn == row_order(rows, 42, epoch).tolist()
    assert sorted(drawn) == list(range(rows))
    assert all(len(chosen) == size for _, chosen in micro_batches[:-1])
    assert all(len(step) == accumulation for step in steps[:-1])
    assert len(micro_batches) == batches.batches_per_epoch
    assert batches.epochs_after(first + batches.steps_per_epoch - 1) == epoch + 1


@given(st.integers(1, 50), st.integers(0, 2**31), st.integers(0, 4))
def test_the_order_of_the_rows_is_the_one_that_trainer_draws(num_rows, seed, epoch):
    sampler = SeedableRandomSampler(range(num_rows), data_seed=seed)
    sampler.set_epoch(epoch)
    assert row_order(num_rows, seed, epoch).tolist() == list(sampler)


def test_data_seed_changes_the_order_in_place_of_the_seed():
    assert row_batches(20, 4, 1, seed=1, data_seed=5).rows(1)[0].tolist() == (
        row_batches(20, 4, 1, seed=5).rows(1)[0].tolist()
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_prepare_the_same_batches_from_any_step_on(num_workers):
    settings = NerSettings(per_device_train_batch_size=4, dataloader_num_workers=num_workers)
    columns = random_rows()
    batches = TrainingBatches(len(columns), settings, padded(columns))
    loaded = list(prepared(batches, range(3, 12), settings, CPU))
    for step, micro_batches in zip(range(3, 12), loaded, strict=True):
        for found, expected in zip(micro_batches, batches[step], strict=True):
            assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_loading_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    columns = random_rows()
    batches = TrainingBatches(len(columns), NerSettings(), padded(columns))
    list(prepared(batches, range(1, 4), NerSettings(), CPU))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "rows, size, accumulation", [(26, 4, 3), (26, 4, 1), (10, 4, 3), (3, 4, 2)]
)
def test_the_steps_that_trainer_takes_hold_the_same_rows(rows, size, accumulation):
    batches = row_batches(rows, size, accumulation)
    steps = range(1, 3 * batches.steps_per_epoch)  # the last epoch ends before its last step
    found = prepared(batches, steps, NerSettings(match_trainer=True), CPU)
    assert list(found) == [batches[step] for step in steps]


def test_evaluation_batches_hold_all_rows_in_the_order_of_the_data():
    settings = NerSettings(per_device_eval_batch_size=4)
    batches = EvaluationBatches(10, settings, collated_rows)
    assert np.concatenate([batches[i] for i in range(len(batches))]).tolist() == list(range(10))
    assert [len(batches[i]) for i in range(len(batches))] == [4, 4, 2]


def collated_rows(rows, epoch=None):
    return np.asarray(rows)


def test_a_step_that_is_sorted_has_the_same_rows_shortest_first(settings):
    chosen = settings(per_device_train_batch_size=4, gradient_accumulation_steps=3)
    lengths = np.random.default_rng(0).integers(3, 40, 26)
    plain = TrainingBatches(26, chosen, collated_rows)
    in_order = TrainingBatches(26, chosen, collated_rows, lengths)
    for step in range(1, 7):
        rows = np.concatenate(in_order.rows(step))
        assert sorted(rows) == sorted(np.concatenate(plain.rows(step)))
        assert (np.diff(lengths[rows]) >= 0).all()
        assert list(map(len, in_order.rows(step))) == list(map(len, plain.rows(step)))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60).map(np.array), st.integers(1, 9))
def test_sorted_evaluation_batches_hold_every_row_once_in_no_more_memory(lengths, size):
    chosen = NerSettings(per_device_eval_batch_size=size)
    batches = EvaluationBatches(len(lengths), chosen, collated_rows, lengths)
    rows = [batches[index] for index in range(len(batches))]
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert (np.diff(lengths[np.concatenate(rows)]) <= 0).all()
    padded_sizes = [len(batch) * lengths[batch].max() for batch in rows]
    assert max(padded_sizes) <= size * lengths.max()
    assert all(len(batch) >= min(size, len(lengths)) for batch in rows[:-1])
