"""Which run an output directory holds: none, an interrupted, a finished or another one."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import NoTokenizer, tiny_bert
from test_checkpoint import some_checkpoints

from rawtrain import MlmSettings, NerSettings
from rawtrain.config import DataSettings, ModelSettings, TrainingSettings
from rawtrain.errors import RunError
from rawtrain.models.tokenizers import load_tokenizer
from rawtrain.run import durable
from rawtrain.run.checkpoint import save_model
from rawtrain.run.directory import claim
from rawtrain.run.identity import FREE, identity_of, output_dir_problem, settings_that_count

OF_THIS_RUN = {
    "data": {"train": "a1"},
    "tokenizer": "b2",
    "model": "c3",
    "device": "cpu",
    "torch": "2.13.0",
    "num_processes": 1,
}


OF_A_START = ("identity.json", "settings.json", "written.json")


def identity(settings, **changes):
    counted = settings_that_count(settings)
    return {"task": settings.task, "settings": counted, **OF_THIS_RUN, **changes}


def start(settings, *steps, is_finished=False):
    """A run with checkpoints at some steps, as a killed process left it."""
    directory = reopened(settings)
    folder = directory.path
    some_checkpoints(settings, *steps, identity=directory.identity)
    durable.write_text(folder / "metrics.jsonl", '{"loss": 1.0}\n')
    if is_finished:
        save_model(tiny_bert(), NoTokenizer(), folder)
    return folder


def reopened(settings, **changes):
    settings = dataclasses.replace(settings, do_train=True)  # as decide_work decides
    directory = claim(settings, identity(settings, **changes))
    directory.lock.close()
    return directory


def test_a_new_run_starts_and_leaves_its_settings_and_identity(settings):
    directory = reopened(settings())
    assert not directory.is_finished and directory.resumes_from is None
    assert sorted(os.listdir(directory.path)) == [".lock", *OF_A_START]
    assert durable.listed(directory.path) == ["identity.json", "settings.json"]


def test_an_unfinished_run_is_resumed_and_says_so(settings, caplog):
    start(settings(), 5, 10)
    with caplog.at_level("INFO", logger="rawtrain"):
        directory = reopened(settings())
    assert directory.resumes_from.name == "checkpoint-10"
    assert "holds this run, unfinished; it resumes from checkpoint-10" in caplog.text
    assert (directory.path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "flag", [{"overwrite_output_dir": True}, {"resume_from_checkpoint": "true"}]
)
def test_the_same_command_with_a_flag_of_the_first_start_resumes_too(settings, flag):
    start(settings(), 5)
    assert reopened(settings(**flag)).resumes_from.name == "checkpoint-5"


def test_a_run_killed_before_its_first_checkpoint_restarts_from_scratch(settings, caplog):
    folder = start(settings())
    with caplog.at_level("INFO", logger="rawtrain"):
        assert reopened(settings()).resumes_from is None
    assert "it restarts from scratch: it has no checkpoint" in caplog.text
    assert not (folder / "metrics.jsonl").exists()


def test_resume_from_checkpoint_false_restarts_from_scratch(settings):
    for is_finished in (False, True):
        folder = start(settings(), 5, is_finished=is_finished)
        (folder / "notes.txt").write_text("the user's")
        directory = reopened(settings(resume_from_checkpoint="false"))
        assert directory.resumes_from is None and not directory.is_finished
        assert sorted(os.listdir(folder)) == sorted([".lock", "notes.txt", *OF_A_START])
        shutil.rmtree(folder)


def test_resume_from_checkpoint_true_needs_a_run(settings):
    with pytest.raises(ValueError, match=r"--resume_from_checkpoint true: .* holds no run"):
        reopened(settings(resume_from_checkpoint="true"))


def test_a_finished_run_is_not_trained_again_and_nothing_of_it_changes(settings, caplog):
    folder = start(settings(), 5, is_finished=True)
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    with caplog.at_level("INFO", logger="rawtrain"):
        directory = reopened(settings())
    assert directory.is_finished and directory.resumes_from is None
    assert "holds the finished run of these settings; it is not trained again" in caplog.text
    after = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    before.pop(folder / ".lock"), after.pop(folder / ".lock")
    assert after == before


def test_overwrite_output_dir_replaces_a_finished_run(settings):
    folder = start(settings(), 5, is_finished=True)
    directory = reopened(settings(overwrite_output_dir=True))
    assert not directory.is_finished and directory.resumes_from is None
    assert not (folder / "model.safetensors").exists() and not (folder / "checkpoint-5").exists()


@dataclass(frozen=True)
class ThirdTaskSettings(TrainingSettings, DataSettings, ModelSettings):
    task: ClassVar[str] = "text-classification"


JOBS = (NerSettings, MlmSettings, ThirdTaskSettings)


@pytest.mark.parametrize("job", JOBS)
def test_a_run_of_any_task_finds_itself_and_keeps_the_other_tasks_out(job, tmp_path):
    of_job = job(output_dir=str(tmp_path), do_train=True)
    start(of_job, 5)
    assert output_dir_problem(of_job) is None
    assert reopened(of_job).resumes_from.name == "checkpoint-5"
    for other in set(JOBS) - {job}:
        of_other = other(output_dir=str(tmp_path), learning_rate=1e-4)
        told = output_dir_problem(of_other).split("\n")
        assert told[1] == f"  task: {job.task} -> {other.task}" and len(told) == 3
        with pytest.raises(ValueError, match=told[1]):
            reopened(of_other)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize(
    ("overrides", "changes", "said"),
    [
        ({"learning_rate": 1e-4}, {}, "--learning_rate: 5e-05 -> 0.0001"),
        ({"seed": 7}, {}, "--seed: 42 -> 7"),
        ({"per_device_train_batch_size": 4}, {}, "--per_device_train_batch_size: 8 -> 4"),
        ({"gradient_accumulation_steps": 2}, {}, "--gradient_accumulation_steps: 1 -> 2"),
        ({"bf16": True}, {}, "--bf16: false -> true"),
        ({}, {"data": {"train": "a2"}}, "sha256 of the data, train: a1 -> a2"),
        ({}, {"data": {}}, "sha256 of the data, train: a1 -> null"),
        ({}, {"tokenizer": "b3"}, "tokenizer: b2 -> b3"),
        ({}, {"model": "c4"}, "model: c3 -> c4"),
        ({}, {"num_processes": 2}, "num_processes: 1 -> 2"),
        ({}, {"device": "cuda"}, "device: cpu -> cuda"),
        ({}, {"torch": "2.14.0"}, "torch: 2.13.0 -> 2.14.0"),
    ],
)
def test_another_run_is_kept_out_with_what_changed(settings, overrides, changes, said, is_finished):
    folder = start(settings(), 5, is_finished=is_finished)
    other = settings(**overrides)
    with pytest.raises(ValueError, match="holds another run") as refused:
        reopened(other, **changes)
    assert said in str(refused.value).replace("\n  ", "\n").split("\n")
    assert (folder / "checkpoint-5").is_dir()
    if overrides:  # told before any data is read
        assert said in output_dir_problem(other)
    directory = reopened(dataclasses.replace(other, overwrite_output_dir=True), **changes)
    assert directory.resumes_from is None and not (folder / "checkpoint-5").exists()


def test_what_moves_no_bit_may_change_before_a_run_resumes(settings):
    start(settings(), 5)
    changed = settings(
        dataloader_num_workers=2, logging_steps=3, save_steps=7, save_total_limit=3,
        log_level="debug", max_predict_samples=4,
    )  # fmt: skip
    assert output_dir_problem(changed) is None
    assert reopened(changed).resumes_from.name == "checkpoint-5"


def test_every_free_setting_is_one(settings):
    names = {field.name for job in (NerSettings, MlmSettings) for field in dataclasses.fields(job)}
    assert names >= FREE


def test_the_interval_of_evaluations_counts_even_where_logging_steps_gives_it(settings):
    of = lambda **overrides: settings_that_count(settings(**overrides))  # noqa: E731
    assert of(logging_steps=5) == of(logging_steps=6)
    assert of(logging_steps=5, eval_strategy="steps") != of(logging_steps=6, eval_strategy="steps")


def test_the_identity_knows_weights_configuration_tokenizer_and_data(small_tokenizer):
    @dataclass
    class Split:
        fingerprint: str

    def of(model=None, tokenizer=small_tokenizer, job=NerSettings, **splits):
        splits = {"train": "x", "validation": "y"} | splits
        splits = {name: Split(fingerprint) for name, fingerprint in splits.items()}
        return identity_of(job(), splits, tokenizer, model or tiny_bert())

    assert of() == of() == of(test="z") == json.loads(json.dumps(of()))
    assert [of(job=job)["task"] for job in JOBS] == ["ner", "mlm", "text-classification"]
    assert of() != of(train="z") and of() != of(validation="z")
    other = tiny_bert()
    other.classifier.bias.data[0] = 1e-30
    assert of() != of(other)
    assert of() != of(tiny_bert(dropout=0.1))  # the same weights


@pytest.mark.parametrize(
    "changed",
    [
        {"model_input_names": ["input_ids", "attention_mask", "token_type_ids"]},
        {"model_max_length": 20},
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"split_special_tokens": True},
        {"clean_up_tokenization_spaces": True},
        {"mask_token": "[UNK]"},
        {"pad_token": "[MASK]"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_tokenizer_config_json_is_another_run(model_dir, tmp_path, changed):
    def of(folder):
        tokenizer = load_tokenizer(NerSettings(model_name_or_path=str(folder)))
        return identity_of(NerSettings(), {}, tokenizer, tiny_bert())["tokenizer"]

    folder = shutil.copytree(model_dir, tmp_path / "another name")
    assert of(folder) == of(model_dir)  # where it lies does not count
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert of(folder) != of(model_dir)


# Checkpoints that are given


def test_a_given_checkpoint_of_this_run_is_taken(settings, tmp_path):
    folder = start(settings(), 5, 10)
    given = str(folder / "checkpoint-5")
    elsewhere = settings(resume_from_checkpoint=given, output_dir=str(tmp_path / "new"))
    assert reopened(elsewhere).resumes_from == Path(given)
    assert (tmp_path / "new" / "identity.json").exists()


def test_a_later_checkpoint_of_its_own_is_taken_before_the_given_one(settings):
    """So the command that names one can be started again, too, and loses nothing."""
    folder = start(settings(), 5, 10)
    for given, taken in ((5, 10), (10, 10)):
        flag = {"resume_from_checkpoint": str(folder / f"checkpoint-{given}")}
        assert reopened(settings(**flag)).resumes_from.name == f"checkpoint-{taken}"


def test_a_given_checkpoint_is_refused_if_missing_damaged_or_of_another_run(settings, tmp_path):
    given = str(start(settings(), 5) / "checkpoint-5")
    new = {"output_dir": str(tmp_path / "new")}
    with pytest.raises(ValueError, match="--resume_from_checkpoint nowhere: no such folder"):
        reopened(settings(resume_from_checkpoint="nowhere", **new))
    own = str(Path(given).parent)
    with pytest.raises(ValueError, match=r"name a checkpoint-<step> within it"):
        reopened(settings(resume_from_checkpoint=own, **new))
    with pytest.raises(ValueError, match=r"checkpoint-5 holds another run(.|\n)*--seed: 42 -> 7"):
        reopened(settings(resume_from_checkpoint=given, seed=7, **new))
    (Path(given) / "optimizer.safetensors").unlink()
    with pytest.raises(RunError, match=r"checkpoint-5: optimizer\.safetensors is missing"):
        reopened(settings(resume_from_checkpoint=given, **new))


# Damage


def test_a_damaged_final_model_is_trained_again_from_the_newest_checkpoint(settings, caplog):
    folder = start(settings(), 5, is_finished=True)
    (folder / "model.safetensors").write_bytes(b"")
    directory = reopened(settings())
    assert not directory.is_finished and directory.resumes_from.name == "checkpoint-5"
    assert "model.safetensors has 0 bytes" in caplog.text


def test_a_damaged_final_model_without_any_checkpoint_stops_the_run(settings):
    folder = start(settings(), is_finished=True)
    (folder / "config.json").unlink()
    for _ in range(2):
        with pytest.raises(RunError, match=r"config\.json is missing; there is no checkpoint"):
            reopened(settings())
    assert (folder / "model.safetensors").exists()


def test_an_identity_that_cannot_be_read_stops_the_run(settings):
    folder = start(settings(), 5)
    (folder / "identity.json").write_text("{")
    with pytest.raises(RunError, match=r"identity\.json: cannot be read"):
        reopened(settings())


@pytest.mark.parametrize("num_threads", ["many", None, -1, [2]])
def test_an_identity_with_an_unsound_number_of_threads_stops_the_run(settings, num_threads):
    folder = start(settings(), 5)
    own = json.loads((folder / "identity.json").read_text())
    durable.write_json(
        folder / "checkpoint-5" / "identity.json", own | {"num_threads": num_threads}
    )
    durable.write_manifest(
        folder / "checkpoint-5",
        [f for f in (folder / "checkpoint-5").iterdir() if f.stem != "manifest"],
    )
    with pytest.raises(RunError, match=r"identity\.json: cannot be read"):
        reopened(settings())


# What is left of a start that did not get far


def test_a_folder_with_nothing_but_a_lock_and_half_written_files_is_as_good_as_empty(settings):
    folder = Path(settings().output_dir)
    folder.mkdir()
    for name in (".lock", ".writing-identity.json", ".deleting-checkpoint-5"):
        (folder / name).write_text("x")
    assert output_dir_problem(settings()) is None
    reopened(settings())
    half_written = [".deleting-checkpoint-5", ".lock"]  # of whom is not known
    assert sorted(os.listdir(folder)) == [*half_written, *OF_A_START]


def test_an_interrupted_training_is_not_given_up_for_an_evaluation(settings):
    folder = start(settings(), 5)
    with pytest.raises(ValueError, match=r"whose training was interrupted; finish it first"):
        claim(settings(do_eval=True), identity(settings()))
    assert (folder / "checkpoint-5").is_dir()


def test_what_was_left_half_written_is_removed_when_a_run_resumes(settings):
    folder = start(settings(), 5)
    durable.enter(folder / "checkpoint-10"), durable.enter(folder / "checkpoint-1")
    (folder / ".writing-checkpoint-10").mkdir()
    (folder / ".deleting-checkpoint-1").mkdir()
    reopened(settings())
    assert sorted(path.name for path in folder.glob(".*")) == [".lock"]


# What a person keeps in it


PERSONS = ("trackers", "checkpoint-1", "damaged-checkpoint-photos", ".writing-novel",
           ".deleting-old", "notes.txt", "model-of-the-house.safetensors")  # fmt: skip


def put_persons_things(folder):
    for name in PERSONS:
        (folder / name).mkdir()
        (folder / name / "irreplaceable").write_text("x")


def are_there(folder):
    return all((folder / name / "irreplaceable").exists() for name in PERSONS)


@pytest.mark.parametrize(
    "flag", [{"overwrite_output_dir": True}, {"resume_from_checkpoint": "false"}]
)
def test_only_what_the_run_wrote_is_deleted_and_it_is_named_before(settings, flag, caplog):
    folder = start(settings(save_total_limit=2), 5, 6, 7, is_finished=True)
    put_persons_things(folder)
    with caplog.at_level("INFO", logger="rawtrain"):
        reopened(settings(save_total_limit=2, **flag))
    assert sorted(os.listdir(folder)) == sorted([".lock", *OF_A_START, *PERSONS])
    assert are_there(folder)
    assert "deletes what a run wrote there: checkpoint-6, checkpoint-7, config.json, iden" in (
        caplog.text
    )


def test_a_persons_folder_named_like_a_checkpoint_is_neither_resumed_nor_moved_nor_deleted(
    settings,
):
    folder = start(settings(save_total_limit=2), 5)
    put_persons_things(folder)
    assert reopened(settings(save_total_limit=2)).resumes_from.name == "checkpoint-5"
    some_checkpoints(settings(save_total_limit=2), 6, 7, 8)
    assert are_there(folder) and not (folder / "checkpoint-6").exists()
    with pytest.raises(RunError, match=r"checkpoint-1: this run has to write it, but did not"):
        some_checkpoints(settings(), 1)


def test_a_copy_of_a_checkpoint_that_was_put_back_is_resumed_and_is_the_runs_again(settings):
    folder = start(settings(), 5)
    shutil.copytree(folder / "checkpoint-5", folder.parent / "copy")
    durable.delete(folder / "checkpoint-5")
    shutil.copytree(folder.parent / "copy", folder / "checkpoint-5")
    assert reopened(settings()).resumes_from.name == "checkpoint-5"
    assert "checkpoint-5" in durable.listed(folder)


@pytest.mark.parametrize("flag", [{}, {"overwrite_output_dir": True}])
def test_a_folder_without_the_list_of_a_run_is_left_as_it_is(settings, flag):
    folder = start(settings(), 5, is_finished=True)
    (folder / "written.json").unlink()
    before = sorted(os.listdir(folder))
    with pytest.raises(ValueError, match=r"no run listed in written\.json what it wrote there"):
        reopened(settings(**flag))
    assert sorted(os.listdir(folder)) == before


def test_a_kill_at_any_moment_loses_no_entry_and_takes_nothing_of_a_person(settings, monkeypatch):
    class Killed(BaseException):
        pass

    def dying(original):
        def call(*args, **kwargs):
            nonlocal calls_left
            calls_left -= 1
            if calls_left == 0:
                raise Killed
            return original(*args, **kwargs)

        return call

    for number in range(1, 200):
        folder = start(settings(), 5, is_finished=True)
        put_persons_things(folder)
        calls_left, is_killed = number, False
        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
                patch.setattr(os, name, dying(getattr(os, name)))
            try:
                reopened(settings(overwrite_output_dir=True))
            except Killed:
                is_killed = True
        assert are_there(folder)
        reopened(settings(seed=7, overwrite_output_dir=True))  # another run takes what is left
        assert sorted(os.listdir(folder)) == sorted([".lock", *OF_A_START, *PERSONS])
        shutil.rmtree(folder)
        if not is_killed:
            break
    assert number > 30


# What Trainer left


@pytest.mark.parametrize("file", ["trainer_state.json", "optimizer.pt"])
def test_a_checkpoint_of_trainer_is_called_by_its_name(settings, tmp_path, file):
    folder = tmp_path / "output"
    (folder / "checkpoint-500").mkdir(parents=True)
    (folder / "checkpoint-500" / file).touch()
    advice = r"checkpoint-500 is a checkpoint of transformers' Trainer, .* --model_name_or_path"
    with pytest.raises(ValueError, match=f"--output_dir .*{advice}"):
        reopened(settings(overwrite_output_dir=True))
    given = {"resume_from_checkpoint": str(folder / "checkpoint-500")}
    with pytest.raises(ValueError, match=f"--resume_from_checkpoint: .*{advice}"):
        reopened(settings(output_dir=str(tmp_path / "new"), **given))


def test_match_trainer_restarts_from_scratch_and_says_so(settings, caplog):
    start(settings(match_trainer=True), 5)
    with caplog.at_level("INFO", logger="rawtrain"):
        assert reopened(settings(match_trainer=True)).resumes_from is None
    assert "restarts from scratch, since --match_trainer cannot resume" in caplog.text


def test_a_run_resumes_with_as_many_threads_as_it_started_with(settings):
    before = torch.get_num_threads()
    try:
        start(settings(), 5)
        torch.set_num_threads(before + 1)
        reopened(settings())
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_a_directory_that_cannot_be_written_is_named_before_anything_is_trained(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (small_disk, small_disk / "new"):
        settings = NerSettings(output_dir=str(folder))
        with pytest.raises(OSError, match=f"Read-only file system: '{folder}"):
            reopened(settings)


# One process at a time


def hold(settings, pipe):
    """What the other process does, until it is killed."""
    os.setsid()
    directory = claim(settings, identity(settings))
    if os.fork() == 0:  # as a worker process of the loader
        signal.pause()
    pipe.send(directory.path)
    signal.pause()


def test_a_second_process_is_refused_until_the_first_ends(settings):
    forked = multiprocessing.get_context("fork")  # nothing is to be imported again
    ours, theirs = forked.Pipe()
    holder = forked.Process(target=hold, args=(settings(), theirs))
    holder.start()
    theirs.close()
    try:
        assert ours.recv() == Path(settings().output_dir)
        with pytest.raises(ValueError, match=f"is in use by process {holder.pid} on .* since"):
            reopened(settings())
        holder.kill()
        holder.join()
        reopened(settings())  # though its worker is still there
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
