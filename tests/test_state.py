"""What is loaded from a checkpoint is what was saved, to the last bit."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import NoTokenizer, tiny_bert
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Adafactor, BertForTokenClassification

from rawtrain import NerSettings
from rawtrain.data.columns import Columns
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.optim import make_optimizer
from rawtrain.run.durable import DamagedError
from rawtrain.run.log import RunLog
from rawtrain.run.state import RunState
from rawtrain.run.step_record import StepRecord

SETTINGS = NerSettings(weight_decay=0.1, learning_rate=0.01)


def new_state(model, scale=8.0):
    optimizer = make_optimizer(model, SETTINGS)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return RunState(model, optimizer, scaler, StepRecord(None), RunLog())


def take_steps(state, number, seed, unused=()):
    """Updates by random gradients; parameters whose names are in `unused` never get one."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        for name, parameter in state.model.named_parameters():
            if not any(part in name for part in unused):
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        state.scaler.scale(torch.zeros(1))
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        state.step += 1
        state.num_updates += 1


def everything(state):
    tensors = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}|{key}"] = torch.as_tensor(value).clone()
    numbers = state._numbers()
    numbers.pop("seconds")
    return tensors, numbers


def assert_equal(one, other):
    (tensors, numbers), (other_tensors, other_numbers) = everything(one), everything(other)
    assert numbers == other_numbers
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        other_tensor = other_tensors[name]
        assert tensor.dtype == other_tensor.dtype and tensor.shape == other_tensor.shape, name
        assert torch.equal(
            tensor.view(-1).view(torch.uint8), other_tensor.view(-1).view(torch.uint8)
        )


number = st.floats(allow_nan=False, allow_infinity=False)


@drawing(max_examples=40)
@given(
    num_steps=st.integers(0, 4),
    seed=st.integers(0, 99),
    unused=st.sampled_from([(), ("classifier",), ("layer.1", "bias")]),
    window=st.floats(width=32, allow_nan=False, allow_infinity=False),
    total=number,
    log=st.lists(
        st.fixed_dictionaries({"step": st.integers(0)}, optional={"loss": number}), max_size=3
    ),
    counts=st.lists(st.integers(0, 2**40), min_size=4, max_size=4),
)
def test_a_state_is_restored_whole(
    tmp_path_factory, num_steps, seed, unused, window, total, log, counts
):
    state = new_state(tiny_bert(seed=seed))
    take_steps(state, num_steps, seed, unused)
    record = state.record
    record.window_sum, record.total, record.grad_norm = np.float32(window), total, total
    record.window_steps, record.total_steps, record.num_skipped, record.num_without_labels = counts
    state.log.history = log
    folder = tmp_path_factory.mktemp("state")
    state.save(folder, NoTokenizer())
    again = new_state(tiny_bert(seed=seed + 1), scale=2.0)
    again.load(folder)
    assert_equal(again, state)
    assert again.seconds >= json.loads((folder / "state.json").read_text())["seconds"] > 0
    take_steps(state, 2, seed, unused), take_steps(again, 2, seed, unused)
    assert_equal(again, state)  # and goes on alike


def test_plain_numbers_of_an_optimizer_are_restored(tmp_path):
    def adafactor(seed):
        state = new_state(tiny_bert(seed=seed))
        state.optimizer = Adafactor(state.model.parameters())
        return state

    state, again = adafactor(0), adafactor(1)
    take_steps(state, 3, seed=0)
    assert set(state._numbers()["optimizer"].values()) == {3}  # steps
    state.save(tmp_path, NoTokenizer())
    again.load(tmp_path)
    take_steps(state, 2, seed=1), take_steps(again, 2, seed=1)
    assert_equal(again, state)


def test_the_same_state_is_the_same_bytes(tmp_path):
    state = new_state(tiny_bert())
    take_steps(state, 2, seed=0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        state.save(tmp_path / name, NoTokenizer())
    for file in ("model.safetensors", "optimizer.safetensors", "config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_rows_of_absent_words_come_back_with_the_decay_that_they_had(tmp_path):
    """The saved model has their product with it, rounded; training goes on from both factors."""
    columns = Columns({"input_ids": np.array([5, 7, 9, 7])}, np.array([0, 2, 4]))
    model, other = tiny_bert(), tiny_bert()
    with compact_vocabulary(model, columns, SETTINGS):
        state = new_state(model)
        take_steps(state, 3, seed=0)
        state.save(tmp_path, NoTokenizer())
        with compact_vocabulary(other, columns, SETTINGS):
            again = new_state(other)
            again.load(tmp_path)
            assert_equal(again, state)
            take_steps(state, 3, seed=1), take_steps(again, 3, seed=1)
            assert_equal(again, state)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loaded_state_does_not_depend_on_its_files_any_more(tmp_path):
    state, again = new_state(tiny_bert()), new_state(tiny_bert(seed=1))
    take_steps(state, 2, seed=0)
    state.save(tmp_path, NoTokenizer())
    again.load(tmp_path)
    for file in ("model.safetensors", "optimizer.safetensors"):
        content = (tmp_path / file).read_bytes()
        with open(tmp_path / file, "r+b") as opened:  # the very file that may be mapped
            opened.write(b"\xff" * len(content))
    assert_equal(again, state)
    shutil.rmtree(tmp_path)
    assert_equal(again, state)


def test_buffers_that_are_saved_with_the_model_come_back(tmp_path):
    class Counting(BertForTokenClassification):
        def __init__(self, config):
            super().__init__(config)
            self.register_buffer("count", torch.zeros(2))

    model, other = (Counting(tiny_bert().config) for _ in range(2))
    model.count += 3
    new_state(model).save(tmp_path, NoTokenizer())
    new_state(other).load(tmp_path)
    assert other.count.tolist() == [3, 3]


BIAS = "classifier.bias"
MOMENTS = {  # what others wrote, and what is said
    "of a parameter that is not there": ("lost|exp_avg", torch.zeros(5), "no parameter lost"),
    "too small": (f"{BIAS}|exp_avg", torch.zeros(3), "exp_avg has another shape or type"),
    "whole numbers": (
        f"{BIAS}|exp_avg_sq",
        torch.zeros(5, dtype=torch.int64),
        "exp_avg_sq has another",
    ),
    "missing": (f"{BIAS}|exp_avg", None, "KeyError: .exp_avg"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_that_this_optimizer_did_not_write_are_refused(name, tmp_path):
    state = new_state(tiny_bert())
    take_steps(state, 1, seed=0)
    state.save(tmp_path, NoTokenizer())
    file, (key, value, said) = tmp_path / "optimizer.safetensors", MOMENTS[name]
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    tensors[key] = value
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(DamagedError, match=said):
        new_state(tiny_bert()).load(tmp_path)


@pytest.mark.parametrize(
    "other", [{"seconds": "nan"}, {"log_history": [{"step": 1, "eval_loss": "x", "epoch": 1}]}]
)
def test_numbers_that_no_run_wrote_are_refused(other, tmp_path):
    state = new_state(tiny_bert())
    take_steps(state, 1, seed=0)
    state.save(tmp_path, NoTokenizer())
    numbers = json.loads((tmp_path / "state.json").read_text()) | other
    (tmp_path / "state.json").write_text(json.dumps(numbers))
    with pytest.raises(DamagedError, match="cannot be read"):
        new_state(tiny_bert()).load(tmp_path)
