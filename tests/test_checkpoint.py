"""What a checkpoint holds, when it is there, which ones stay, and which one a run goes on from."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import NoTokenizer, tiny_bert
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, AutoTokenizer

from rawtrain import NerSettings
from rawtrain.errors import RunError
from rawtrain.optim import make_optimizer
from rawtrain.precision import make_scaler
from rawtrain.run import durable
from rawtrain.run.checkpoint import Checkpoints, beyond_limit, in_folder, newest_good, save_model
from rawtrain.run.directory import RunDirectory
from rawtrain.run.durable import DamagedError
from rawtrain.run.log import RunLog
from rawtrain.run.plan import make_plan
from rawtrain.run.state import RunState
from rawtrain.run.step_record import NonFiniteError, StepRecord

NOTHING_PLANNED = make_plan(NerSettings(save_strategy="no"), steps_per_epoch=9, has_validation=True)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def state_after(step, settings, model=None, losses=()):
    """A run after some steps, with evaluations of these losses at steps 1, 2 ..."""
    model = model or tiny_bert()
    optimizer, scaler = make_optimizer(model, settings), make_scaler(settings, model.device)
    state = RunState(model, optimizer, scaler, StepRecord(batches=None), RunLog(), step=step)
    for number, loss in enumerate(losses, start=1):
        state.log.add({"eval_loss": loss, "eval_f1": 1 - loss, "epoch": 1.0, "step": number})
    return state


# The final model


def test_a_saved_model_loads_with_equal_weights_and_leaves_nothing_aside(tmp_path, model_dir):
    model, tokenizer = tiny_bert(), AutoTokenizer.from_pretrained(model_dir)
    (tmp_path / "kept.txt").write_text("not the program's")
    save_model(model, tokenizer, tmp_path)
    assert names(tmp_path) == [
        "config.json", "kept.txt", "manifest.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    durable.verify(tmp_path, others_allowed=True)
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_a_save_that_fails_leaves_the_model_that_was_there(tmp_path):
    old, new = tiny_bert(seed=1), tiny_bert(seed=2)
    save_model(old, NoTokenizer(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    class Full(NoTokenizer):
        def save_pretrained(self, folder):
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device; it needs about .* MB, .* free"):
        save_model(new, Full(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    durable.verify(tmp_path, others_allowed=True)
    save_model(new, NoTokenizer(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_the_weights_come_after_all_else_and_the_manifest_after_the_weights(tmp_path, monkeypatch):
    replaced = []
    original = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append(Path(b).name), original(a, b)))
    save_model(tiny_bert(), NoTokenizer(), tmp_path)
    assert replaced == ["config.json", "tokenizer.json", "model.safetensors", "manifest.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_a_nan_or_infinite_weight_is_never_saved(settings, value):
    chosen, model = settings(), tiny_bert()
    model.classifier.weight.data[1, 2] = value
    with pytest.raises(NonFiniteError, match=r"the weight classifier\.weight"):
        save_model(model, NoTokenizer(), chosen.output_dir)
    assert not Path(chosen.output_dir).exists()
    Path(chosen.output_dir).mkdir()
    with pytest.raises(NonFiniteError, match=r"the weight classifier\.weight"):
        Checkpoints(chosen, NoTokenizer()).save(state_after(5, chosen, model))
    assert names(chosen.output_dir) == []


# What a checkpoint holds


def test_a_checkpoint_holds_a_model_for_from_pretrained_and_no_pickle(settings):
    chosen = settings()
    Path(chosen.output_dir).mkdir()
    state = state_after(5, chosen)
    Checkpoints(chosen, NoTokenizer()).save(state)
    folder = Path(chosen.output_dir) / "checkpoint-5"
    assert names(folder) == [
        "config.json", "identity.json", "manifest.json", "model.safetensors",
        "optimizer.safetensors", "state.json", "tokenizer.json",
    ]  # fmt: skip
    loaded = AutoModelForTokenClassification.from_pretrained(folder)
    for ours, theirs in zip(loaded.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert json.loads((folder / "state.json").read_text())["step"] == 5


def test_files_have_the_permissions_of_the_umask(settings):
    chosen = settings()
    Path(chosen.output_dir).mkdir()
    before = os.umask(0o022)
    try:
        Checkpoints(chosen, NoTokenizer()).save(state_after(1, chosen))
    finally:
        os.umask(before)
    for file in (Path(chosen.output_dir) / "checkpoint-1").iterdir():
        assert file.stat().st_mode & 0o777 == 0o644, file.name


# Which stay


def kept(settings):
    return sorted(step for step, _ in in_folder(settings.output_dir))


def test_the_oldest_checkpoints_go_and_the_best_and_the_newest_stay(settings):
    chosen = settings(save_total_limit=2, load_best_model_at_end=True)
    checkpoints = Checkpoints(chosen, NoTokenizer())
    Path(chosen.output_dir).mkdir()
    losses = [3.0, 1.0, 2.0, 2.5]
    for step in (1, 2, 3, 4):
        checkpoints.save(state_after(step, chosen, losses=losses[:step]))
        assert step in kept(chosen)
    assert kept(chosen) == [2, 4]


@given(
    steps=st.sets(st.integers(1, 2000), max_size=12),
    limit=st.none() | st.integers(2, 5),
    best=st.none() | st.integers(1, 2000),
)
def test_what_goes_is_never_the_newest_nor_the_best_and_the_oldest_first(steps, limit, best):
    gone = beyond_limit(list(steps), limit, best)
    left = steps - set(gone)
    assert set(gone) <= steps - {best, max(steps, default=None)}
    if limit is None:
        assert gone == []
    else:
        assert len(left) <= max(limit, len(steps & {best, max(steps, default=0)}))
        assert len(left) >= min(limit, len(steps))  # and no more go than have to
        assert gone == sorted(gone)
        droppable = sorted(steps - {best, max(steps, default=None)})
        assert gone == droppable[: len(gone)]


def test_the_best_weights_are_loaded(settings):
    chosen = settings(load_best_model_at_end=True)
    checkpoints = Checkpoints(chosen, NoTokenizer())
    Path(chosen.output_dir).mkdir()
    best, last = tiny_bert(seed=1), tiny_bert(seed=2)
    checkpoints.save(state_after(1, chosen, best, losses=[1.0]))
    state = state_after(2, chosen, last, losses=[1.0, 2.0])
    checkpoints.save(state)
    checkpoints.load_best(last, state.log.history)
    for ours, theirs in zip(last.parameters(), best.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_resumed_run_deletes_what_a_kill_after_the_last_save_left_beyond_the_limit(settings):
    folder = some_checkpoints(settings(), 1, 2, 3)
    chosen = settings(save_total_limit=2)
    directory = RunDirectory(
        folder, IDENTITY, False, resumes_from=folder / "checkpoint-3", lock=None
    )
    Checkpoints(chosen, NoTokenizer(), directory).resume(state_after(0, chosen))
    assert kept(chosen) == [2, 3]


def test_a_damaged_best_model_is_not_loaded(settings):
    chosen = settings(load_best_model_at_end=True)
    folder = some_checkpoints(chosen, 1, losses=[1.0])
    weights = folder / "checkpoint-1" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # safetensors takes it as it is
    weights.write_bytes(content)
    state = state_after(2, chosen, losses=[1.0, 2.0])
    with pytest.raises(DamagedError, match=r"model\.safetensors holds other bytes"):
        Checkpoints(chosen, NoTokenizer()).load_best(state.model, state.log.history)


@pytest.mark.parametrize("keeps", [{"save_strategy": "best"}, {"load_best_model_at_end": True}])
def test_a_step_found_to_be_the_best_is_due_and_no_other(settings, keeps):
    checkpoints = Checkpoints(settings(**keeps), NoTokenizer())
    state = state_after(3, settings(), losses=[3.0, 4.0, 2.0])
    assert checkpoints.are_due(state, NOTHING_PLANNED)
    state.step = 4  # nothing was evaluated there
    assert not checkpoints.are_due(state, NOTHING_PLANNED)
    assert not checkpoints.are_due(state_after(2, settings(), losses=[3.0, 4.0]), NOTHING_PLANNED)
    assert not Checkpoints(settings(), NoTokenizer()).are_due(state, NOTHING_PLANNED)


# Which one a run goes on from


IDENTITY = {"settings": {"seed": 1}, "data": {}}


def some_checkpoints(settings, *steps, identity=IDENTITY, losses=()):
    folder = Path(settings.output_dir)
    folder.mkdir(exist_ok=True)
    directory = RunDirectory(folder, identity, is_finished=False, resumes_from=None, lock=None)
    for step in steps:
        state = state_after(step, settings, losses=losses[:step])
        Checkpoints(settings, NoTokenizer(), directory).save(state)
    return folder


def newest(folder, **overrides):
    return newest_good(NerSettings(output_dir=str(folder), **overrides), IDENTITY).name


def test_a_run_resumes_from_the_highest_step_and_not_from_what_only_looks_like_one(settings):
    folder = some_checkpoints(settings(), 9, 10)
    for name in ("checkpoint-1e3", "checkpoint--1", "checkpoint-١٢", "checkpoint-11.old",
                 "checkpoint-011", "checkpoint-"):  # fmt: skip
        shutil.copytree(folder / "checkpoint-9", folder / name)
    for step in (9, 10):  # whatever the clock says
        os.utime(folder / f"checkpoint-{step}", (10**9 - step, 10**9 - step))
    assert newest(folder) == "checkpoint-10"


def test_without_any_checkpoint_there_is_none(tmp_path):
    assert newest_good(NerSettings(output_dir=str(tmp_path)), IDENTITY) is None


def test_a_damaged_checkpoint_is_named_and_kept_and_the_one_before_it_is_taken(settings, caplog):
    folder = some_checkpoints(settings(), 1, 2, 3)
    (folder / "checkpoint-3" / "state.json").write_text("{}")
    (folder / "checkpoint-2" / "model.safetensors").unlink()
    with caplog.at_level("WARNING", logger="rawtrain"):
        assert newest(folder) == "checkpoint-1"
    assert names(folder) == ["checkpoint-1", "damaged-checkpoint-2-1", "damaged-checkpoint-3-1"]
    assert "checkpoint-3: state.json has 2 bytes, not " in caplog.text
    assert "checkpoint-2: model.safetensors is missing" in caplog.text


def test_an_empty_folder_of_a_higher_step_is_damaged_too(settings):
    folder = some_checkpoints(settings(), 5)
    (folder / "checkpoint-999").mkdir()
    assert newest(folder) == "checkpoint-5"
    assert (folder / "damaged-checkpoint-999-1").is_dir()


def test_if_all_are_damaged_the_run_stops_now_and_at_the_next_start(settings):
    folder = some_checkpoints(settings(), 1, 2)
    for step in (1, 2):
        (folder / f"checkpoint-{step}" / "manifest.json").write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(RunError, match=r"no sound checkpoint is left .* damaged-checkpoint"):
            newest(folder)
    assert names(folder) == ["damaged-checkpoint-1-1", "damaged-checkpoint-2-1"]


def test_a_checkpoint_under_the_name_of_another_step_is_found(settings):
    folder = some_checkpoints(settings(), 5)
    shutil.copytree(folder / "checkpoint-5", folder / "checkpoint-7")
    assert newest(folder) == "checkpoint-5"


def test_a_checkpoint_of_another_run_is_never_chosen(settings, caplog):
    folder = some_checkpoints(settings(), 5)
    some_checkpoints(settings(), 6, identity={"settings": {"seed": 2}, "data": {}})
    with caplog.at_level("WARNING", logger="rawtrain"):
        assert newest(folder) == "checkpoint-5"
    assert "it is of another run (--seed: 2 -> 1)" in caplog.text


def test_where_the_best_is_damaged_a_run_resumes_before_it_and_makes_it_again(settings, caplog):
    losses = [2.0, 3.0, 1.0, 4.0, 5.0]  # at steps 1 to 5: the best is 3
    folder = some_checkpoints(settings(), 1, 2, 3, 4, 5, losses=losses)
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"")
    assert newest(folder) == "checkpoint-5"  # its model is not needed
    with caplog.at_level("WARNING", logger="rawtrain"):
        assert newest(folder, load_best_model_at_end=True) == "checkpoint-2"
    assert "checkpoint-3: model.safetensors has 0 bytes" in caplog.text
    assert (folder / "damaged-checkpoint-3-1").is_dir() and (folder / "checkpoint-5").is_dir()
    shutil.rmtree(folder / "checkpoint-1")  # the best of step 2
    with pytest.raises(RunError, match="no sound checkpoint is left to go on with"):
        newest(folder, load_best_model_at_end=True)
