"""An interrupted run ends with the bits of the uninterrupted one."""

import contextlib
import functools
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import NoTokenizer, padded, random_rows, tagged_sentences, tiny_bert, write_conll

import rawtrain.evaluation
import rawtrain.job
import rawtrain.loop
from rawtrain import mlm, ner
from rawtrain.batches import TrainingBatches
from rawtrain.cli.command import settings_from
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.errors import RunError
from rawtrain.loop import train
from rawtrain.run import durable, signals
from rawtrain.run.best import best_evaluation
from rawtrain.run.checkpoint import Checkpoints, in_folder
from rawtrain.run.directory import RunDirectory
from rawtrain.run.log import RunLog

pytestmark = pytest.mark.usefixtures("listening")

JOBS = {"ner": (ner, NerSettings), "mlm": (mlm, MlmSettings)}


class Killed(BaseException):
    """In the place of kill -9: nothing of the program handles it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tagged sentences and documents: 46 rows to train on, so that the last batch is short."""
    folder = tmp_path_factory.mktemp("data")
    names = {}
    for seed, (split, number) in enumerate([("train", 46), ("validation", 12), ("test", 10)]):
        words, tags = tagged_sentences(number, seed)
        names[split] = write_conll(folder / f"{split}.conll", words, tags)
        text = "\n".join(" ".join(sentence) for sentence in words)
        (folder / f"{split}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def start(files, model_dir):
    """Start a job; `killed_at` raises Killed in that step, `signal_at` sends (signal, step)."""

    def start(job, output_dir, flags="", killed_at=None, signal_at=None):
        module, settings_class = JOBS[job]
        suffix = "conll" if job == "ner" else "txt"
        splits = ["train", "validation", "test"] if job == "ner" else ["train", "validation"]
        command = f"--model_name_or_path {model_dir} --output_dir {output_dir} --use_cpu "
        command += "--num_train_epochs 3 --logging_steps 1 --save_steps 4 --learning_rate 1e-3 "
        command += "--line_by_line " if job == "mlm" else "--weight_decay 0.01 "
        command += " ".join(f"--{split}_file {files}/{split}.{suffix}" for split in splits)
        steps = [0]
        original = rawtrain.loop.train_step

        def counted(*arguments):
            result = original(*arguments)
            steps[0] += 1
            if steps[0] == killed_at:
                raise Killed
            if signal_at and steps[0] == signal_at[1]:
                os.kill(os.getpid(), signal_at[0])
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rawtrain.loop, "train_step", counted)
            module.main(settings_from(settings_class, [*command.split(), *flags.split()]))
        return outcome(output_dir)

    return start


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    """The outcome of a job that nothing interrupts; each command runs once."""

    @functools.cache
    def uninterrupted(job, flags=""):
        return start(job, tmp_path_factory.mktemp("runs") / "whole", flags)

    return uninterrupted


@pytest.fixture
def asked_no_more(monkeypatch):
    """What a new process begins with: no signal has come yet."""
    return lambda: monkeypatch.setattr(signals, "_end_asked", None)


def outcome(folder):
    """All that may not depend on an interruption, by name."""
    folder = Path(folder)
    kept = {"model": (folder / "model.safetensors").read_bytes()}
    for step, path in in_folder(folder):
        for name in ("model.safetensors", "optimizer.safetensors"):
            kept[f"{step} {name}"] = (path / name).read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    kept["log"] = [without_times(json.loads(line)) for line in lines]
    kept["results"] = without_times(json.loads((folder / "all_results.json").read_text()))
    if (folder / "predictions.conll").exists():
        kept["predictions"] = (folder / "predictions.conll").read_text()
    return kept


def without_times(entry):
    times = ("_runtime", "_per_second")
    return {name: value for name, value in entry.items() if not name.endswith(times)}


def assert_same(found, expected):
    different = [name for name in expected if found.get(name) != expected[name]]
    assert found.keys() == expected.keys() and not different, different


BEST = "--load_best_model_at_end --early_stopping_patience 2 --eval_strategy steps --eval_steps 2"
EARLY = BEST + " --max_steps 40 --learning_rate 0.03 --metric_for_best_model accuracy"
EARLY += " --save_steps 1"
RAGGED = "--gradient_accumulation_steps 3 --per_device_train_batch_size 5"  # 3, 3, 3, 1 of 10
VARIANTS = {
    "plain": "",
    "two workers": "--dataloader_num_workers 2",
    "a ragged tail": RAGGED,
    "a ragged tail, two workers": f"{RAGGED} --dataloader_num_workers 2",
    "bf16": "--bf16",
    "padded": "--padding",
    "not fast": "--fast false",
    "evaluations": "--eval_strategy steps --eval_steps 3",
    "best and early stop": EARLY,
    "checkpointed activations": "--gradient_checkpointing",
}


def starts_processes(name):
    return [pytest.mark.slow] if "workers" in name else []


@pytest.mark.parametrize(
    "flags",
    [pytest.param(VARIANTS[name], id=name, marks=starts_processes(name)) for name in VARIANTS],
)
@pytest.mark.parametrize("job", JOBS)
def test_a_killed_run_ends_with_the_bits_of_the_uninterrupted_one(
    job, flags, start, uninterrupted, tmp_path
):
    expected = uninterrupted(job, flags)
    # mid-epoch, 2 steps after a checkpoint; then once more
    for killed_at in (3, 2) if flags == EARLY else (6, 5):
        with pytest.raises(Killed):
            start(job, tmp_path / "killed", flags, killed_at=killed_at)
    assert_same(start(job, tmp_path / "killed", flags), expected)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_twenty_resumes_in_one_run_change_no_bit(job, start, tmp_path):
    flags = "--per_device_train_batch_size 6 --save_steps 1 --save_total_limit 2 "  # 24 steps
    flags += "--eval_strategy no"
    expected = start(job, tmp_path / "whole", flags)
    for _ in range(20):
        with pytest.raises(Killed):
            start(job, tmp_path / "killed", flags, killed_at=2)
    assert_same(start(job, tmp_path / "killed", flags), expected)


def test_a_run_killed_after_it_stopped_early_takes_no_further_step(
    start, uninterrupted, tmp_path, monkeypatch
):
    expected = uninterrupted("ner", EARLY)
    assert "1 model.safetensors" in expected and "39 model.safetensors" not in expected
    original = rawtrain.job.write_training_results
    monkeypatch.setattr(rawtrain.job, "write_training_results", kill)
    with pytest.raises(Killed):
        start("ner", tmp_path / "killed", EARLY)
    monkeypatch.setattr(rawtrain.job, "write_training_results", original)
    assert_same(start("ner", tmp_path / "killed", EARLY), expected)


def kill(*_):
    raise Killed


def test_the_evaluation_before_the_first_step_is_not_made_again(start, tmp_path, capfd):
    for killed_at, said in ((6, True), (None, False)):
        capfd.readouterr()
        with pytest.raises(Killed) if killed_at else contextlib.nullcontext():
            start("mlm", tmp_path / "out", killed_at=killed_at)
        assert ("epoch 0.00  step 0 " in capfd.readouterr().err) == said


def test_a_damaged_best_model_is_made_again_by_the_resumed_run(start, tmp_path):
    flags = BEST + " --max_steps 12 --save_steps 1"
    expected = start("ner", tmp_path / "whole", flags)
    with pytest.raises(Killed):
        start("ner", tmp_path / "killed", flags, killed_at=11)
    history = json.loads((tmp_path / "killed" / "checkpoint-10" / "state.json").read_text())
    best = best_evaluation(history["log_history"], NerSettings())["step"]
    (tmp_path / "killed" / f"checkpoint-{best}" / "model.safetensors").write_bytes(b"")
    assert_same(start("ner", tmp_path / "killed", flags), expected)


@pytest.mark.slow
def test_other_workers_and_intervals_change_no_bit_on_the_way(start, uninterrupted, tmp_path):
    expected = uninterrupted("ner")
    with pytest.raises(Killed):
        start("ner", tmp_path / "killed", "--dataloader_num_workers 2", killed_at=6)
    found = start("ner", tmp_path / "killed", "--save_steps 3 --logging_steps 5")
    # Trainer's sum: a float32 for each log line
    found["results"]["train_loss"] = expected["results"]["train_loss"]
    for name in ("model", "results", "predictions"):
        assert found[name] == expected[name]


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("flags", ["", "--save_strategy no"])
def test_a_signal_ends_the_run_after_a_checkpoint_of_the_step_it_came_in(
    number, flags, start, uninterrupted, tmp_path, asked_no_more, capfd
):
    expected = uninterrupted("ner", flags)
    with pytest.raises(SystemExit) as end:
        start("ner", tmp_path / "ended", flags, signal_at=(number, 5))
    assert end.value.code == 128 + number
    assert in_folder(tmp_path / "ended")[0][0] == 5
    assert f"{number.name}: ends after a checkpoint" in capfd.readouterr().err
    asked_no_more()
    found = start("ner", tmp_path / "ended", flags)
    extra = [name for name in found if name.startswith("5 ")]
    assert_same({name: found[name] for name in found if name not in extra}, expected)


def test_a_signal_during_an_evaluation_ends_it_and_the_resumed_run_repeats_it(
    start, tmp_path, asked_no_more, monkeypatch
):
    flags = BEST + " --save_strategy no --max_steps 8"
    expected = start("ner", tmp_path / "whole", flags)
    original, calls = rawtrain.evaluation.labelled_tokens, []

    def interrupted(batch):
        if not torch.is_grad_enabled():
            calls.append(1)
            if len(calls) == 5:  # the second batch of some evaluation
                os.kill(os.getpid(), signal.SIGTERM)
        return original(batch)

    monkeypatch.setattr(rawtrain.evaluation, "labelled_tokens", interrupted)
    with pytest.raises(SystemExit):
        start("ner", tmp_path / "ended", flags)
    ((step, path), *_) = in_folder(tmp_path / "ended")
    state = json.loads((path / "state.json").read_text())
    assert step == state["step"] and step % 2 == 0
    assert not [e for e in state["log_history"] if "eval_loss" in e and e["step"] == step]
    asked_no_more()
    assert_same(start("ner", tmp_path / "ended", flags), expected)


def test_sigusr1_makes_a_checkpoint_and_the_run_continues(start, uninterrupted, tmp_path):
    flags = "--save_strategy no"
    expected = uninterrupted("mlm", flags)
    found = start("mlm", tmp_path / "asked", flags, signal_at=(signal.SIGUSR1, 5))
    assert [step for step, _ in in_folder(tmp_path / "asked")] == [5]
    assert all(found[name] == expected[name] for name in expected)


def test_sigusr1_in_a_step_that_is_saved_anyway_makes_no_other_checkpoint(start, tmp_path):
    start("mlm", tmp_path / "asked", signal_at=(signal.SIGUSR1, 4))
    assert [step for step, _ in in_folder(tmp_path / "asked")] == [16, 12, 8, 4]


@pytest.mark.parametrize("job", JOBS)
def test_a_signal_while_the_final_model_is_saved_comes_after_it(
    job, start, uninterrupted, tmp_path, asked_no_more, monkeypatch
):
    expected = uninterrupted(job)
    original = rawtrain.job.save_model

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)

    monkeypatch.setattr(rawtrain.job, "save_model", interrupted)
    with pytest.raises(SystemExit) as end:
        start(job, tmp_path / "ended")
    assert end.value.code == 143
    assert (tmp_path / "ended" / "manifest.json").exists()
    assert not (tmp_path / "ended" / "eval_results.json").exists()
    asked_no_more()
    monkeypatch.setattr(rawtrain.job, "train", None)  # nothing is trained again
    assert_same(start(job, tmp_path / "ended"), expected)


# A full disk


def resize(disk, num_bytes):
    subprocess.run(["mount", "-o", f"remount,size={num_bytes}", str(disk)], check=True)


def test_a_full_disk_stops_the_run_and_with_room_again_it_ends_with_the_same_bits(
    start, tmp_path, small_disk
):
    expected = start("ner", tmp_path / "whole", "--save_total_limit 2")
    checkpoint = in_folder(tmp_path / "whole")[0][1]
    size = sum(file.stat().st_size + 4096 for file in checkpoint.iterdir())
    resize(small_disk, 2 * size + size // 2)  # two fit, a third is made before one goes
    with pytest.raises(RunError, match=r"No space left .*; it needs about 0\.\d MB, .* free"):
        start("ner", small_disk / "out", "--save_total_limit 2")
    kept = [path for _, path in in_folder(small_disk / "out")]
    assert kept
    for path in kept:
        durable.verify(path)
    resize(small_disk, 10 * size)
    assert_same(start("ner", small_disk / "out", "--save_total_limit 2"), expected)


# A finished run


def test_a_finished_run_shows_its_results_and_scores_the_splits_that_are_missing(
    start, tmp_path, capsys
):
    folder = tmp_path / "out"
    expected = start("ner", folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert_same(start("ner", folder), expected)
    shown = capsys.readouterr().out
    assert f"eval_f1            {expected['results']['eval_f1']:.4g}" in shown
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop(folder / ".lock"), after.pop(folder / ".lock")
    assert after == files

    for file in ("predictions.conll", "predict_results.json", "eval_results.json"):
        (folder / file).unlink()
    assert_same(start("ner", folder, "--do_predict"), expected)
    assert not (folder / "eval_results.json").exists()
    start("ner", folder)
    assert (folder / "eval_results.json").exists()


@pytest.mark.parametrize(
    "last", ["manifest.json", "all_results.json", "eval_results.json", "predict_results.json"]
)
def test_a_run_killed_between_its_last_files_writes_the_rest_when_started_again(
    last, start, uninterrupted, tmp_path, monkeypatch
):
    expected, folder, original = uninterrupted("ner"), tmp_path / "killed", os.replace

    def replace(old, new):
        original(old, new)
        if Path(new) == folder / last and (folder / "manifest.json").exists():
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            start("ner", folder)
    assert_same(start("ner", folder), expected)
    for split in ("eval", "predict"):
        assert (folder / f"{split}_results.json").exists()


# The state itself


def test_the_place_in_a_long_run_is_found_at_once(settings):
    """No batch is made again: the first one asked for is that of the next step."""
    chosen = settings(max_steps=10**6 + 1, logging_strategy="no", save_strategy="no")
    columns, asked = random_rows(30), []

    class Batches(TrainingBatches):
        def __getitem__(self, step):
            asked.append(step)
            return super().__getitem__(step)

    from rawtrain.optim import make_optimizer
    from rawtrain.precision import make_scaler
    from rawtrain.run.state import RunState
    from rawtrain.run.step_record import StepRecord

    batches, model = Batches(30, chosen, padded(columns)), tiny_bert()
    Path(chosen.output_dir).mkdir()
    optimizer, scaler = make_optimizer(model, chosen), make_scaler(chosen, model.device)
    state = RunState(model, optimizer, scaler, StepRecord(batches), RunLog(), step=10**6)
    state.num_updates = 10**6
    Checkpoints(chosen, NoTokenizer()).save(state)
    path = Path(chosen.output_dir) / "checkpoint-1000000"
    directory = RunDirectory(path.parent, {}, is_finished=False, resumes_from=path, lock=None)
    checkpoints = Checkpoints(chosen, NoTokenizer(), directory)
    history = train(model, batches, chosen, checkpoints=checkpoints)
    assert asked == [10**6 + 1] and history[-1]["step"] == 10**6 + 1
