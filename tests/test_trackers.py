"""--report_to: what TensorBoard and wandb are handed, also after an interruption."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import tagged_sentences, write_conll
from transformers.integrations.integration_utils import rewrite_logs

from rawtrain import ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.run import trackers
from rawtrain.run.log import RunLog
from rawtrain.run.trackers import start_trackers

ENTRIES = [
    {"loss": 2.0, "learning_rate": 0.1, "epoch": 0.5, "step": 1},
    {"loss": 1.5, "learning_rate": 0.1, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.0, "eval_f1": 0.5, "epoch": 1.0, "step": 2},
    {"loss": 1.2, "learning_rate": 0.1, "epoch": 1.5, "step": 3},
    {"train_loss": 1.5, "train_runtime": 3.0, "epoch": 1.5, "step": 3},
]
EPOCH = "train/epoch"  # every entry has it, so a step has it more than once, Trainer's too


def wanted(entries):
    """What a tracker should show of a log history: a value by name and step."""
    return {
        (name, entry["step"]): value
        for entry in entries
        for name, value in rewrite_logs(entry).items()
        if name not in (EPOCH, "train/step")
    }


class FakeTensorBoard:
    """Shows what TensorBoard would: the events of every writer of a folder."""

    def __init__(self, log_dir):
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        self.file = Path(log_dir) / "events.json"
        self.events = json.loads(self.file.read_text()) if self.file.exists() else []

    def add_scalar(self, name, value, step):
        self.events.append([name, step, value])

    def flush(self):
        self.file.write_text(json.dumps(self.events))

    close = flush

    def shown(self):
        return self.events


class FakeWandb(ModuleType):
    """Keeps the rows of its runs by id, as the server does."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.rows, self.started, self.finished, self.refuses = {}, [], 0, None

    def init(self, **options):
        if self.refuses:
            raise self.Error(self.refuses)
        self.started.append(options)
        rows = self.rows.setdefault(options["id"], [])
        return SimpleNamespace(
            log=rows.append, define_metric=lambda *_, **__: None, finish=self.finish
        )

    def finish(self):
        self.finished += 1

    def shown(self):
        (rows,) = self.rows.values()
        steps = [(row, row["train/global_step"]) for row in rows]
        return [
            [name, step, value]
            for row, step in steps
            for name, value in row.items()
            if name != "train/global_step"
        ]


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Both packages, as far as they are used; returns what each shows of the run in a folder."""
    module, wandb = ModuleType("torch.utils.tensorboard"), FakeWandb()
    module.SummaryWriter = FakeTensorBoard
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(trackers, "_is_installed", lambda name: True)
    return wandb


def shown_by(name, output_dir, wandb):
    """What a tracker shows, each value once."""
    folder = output_dir / "trackers" / "tensorboard"
    events = wandb.shown() if name == "wandb" else FakeTensorBoard(folder).shown()
    events = [event for event in events if event[0] != EPOCH]
    by_place = {(tag, step): value for tag, step, value in events}
    assert len(by_place) == len(events), "something is shown twice"
    return by_place


def new_log(settings, output_dir, is_finished=False, names=("tensorboard", "wandb")):
    directory = SimpleNamespace(path=output_dir, is_finished=is_finished)
    settings = settings(report_to=list(names), do_train=True)
    return RunLog(trackers=start_trackers(settings, directory))


BOTH = pytest.mark.parametrize("name", ["tensorboard", "wandb"])


@BOTH
def test_every_entry_is_shown_under_trainers_names(settings, tmp_path, fakes, name):
    log = new_log(settings, tmp_path)
    for entry in ENTRIES:
        log.add(entry)
    log.finish()
    found = shown_by(name, tmp_path, fakes)
    assert found == wanted(ENTRIES)
    assert {tag for tag, _ in found} >= {"train/loss", "train/learning_rate", "eval/f1"}
    assert fakes.finished == 1


@BOTH
@pytest.mark.parametrize(
    ("num_logged", "num_kept"), [(n, k) for n in range(len(ENTRIES)) for k in range(n + 1)]
)
def test_a_resumed_run_shows_every_entry_once(
    settings, tmp_path, fakes, name, num_kept, num_logged
):
    """Killed after `num_logged` entries, it goes on from a checkpoint that knows `num_kept`.

    And is killed again after another one.
    """
    log = new_log(settings, tmp_path)
    for entry in ENTRIES[:num_logged]:
        log.add(entry)
    for num_more in (1, len(ENTRIES)):
        log = new_log(settings, tmp_path)
        log.restore(ENTRIES[:num_kept])
        for entry in ENTRIES[num_kept:][:num_more]:
            log.add(entry)
    assert shown_by(name, tmp_path, fakes) == wanted(ENTRIES)
    assert len(fakes.rows) == 1


@BOTH
def test_a_tracker_first_named_when_the_run_resumes_gets_the_whole_history(
    settings, tmp_path, fakes, name
):
    log = new_log(settings, tmp_path, names=[name])
    log.restore(ENTRIES[:3])
    for entry in ENTRIES[3:]:
        log.add(entry)
    assert shown_by(name, tmp_path, fakes) == wanted(ENTRIES)


@BOTH
def test_a_run_that_resumes_with_other_logging_steps_shows_all_that_follows(
    settings, tmp_path, fakes, name
):
    every_second, every = ([{"loss": 1 / n, "step": n} for n in range(1, 9, k)] for k in (2, 1))
    log = new_log(settings, tmp_path)
    for entry in every_second[:3]:  # to step 5
        log.add(entry)
    log = new_log(settings, tmp_path)
    log.restore(every_second[:1])
    for entry in every[1:]:
        log.add(entry)
    assert shown_by(name, tmp_path, fakes) == wanted(every_second[:3] + every[5:])


def test_a_finished_run_starts_no_tracker(settings, tmp_path, fakes):
    assert new_log(settings, tmp_path, is_finished=True).trackers == []
    assert fakes.started == [] and list(tmp_path.iterdir()) == []


def test_wandb_is_told_where_the_run_is_and_what_it_is(settings, tmp_path, fakes, monkeypatch):
    new_log(settings, tmp_path / "output")
    monkeypatch.setenv("WANDB_PROJECT", "names")
    new_log(settings, tmp_path / "output")
    first, second = fakes.started
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert (first["project"], second["project"]) == ("rawtrain", "names")
    assert first["name"] == "output" and first["config"]["learning_rate"] == 5e-5
    assert first["dir"] == str(tmp_path / "output" / "trackers")


def test_wandb_that_does_not_start_is_a_mistake_of_the_user(settings, tmp_path, fakes):
    fakes.refuses = "No API key configured"
    with pytest.raises(ValueError, match="--report_to wandb: No API key configured; or set WANDB"):
        new_log(settings, tmp_path)


# The command


def run_ner(tmp_path, model_dir, *more):
    train, validation = (tmp_path / f"{name}.conll" for name in ("train", "validation"))
    write_conll(train, *tagged_sentences(30))
    write_conll(validation, *tagged_sentences(10, 1))
    command = f"--train_file {train} --validation_file {validation} --use_cpu --max_steps 6"
    command += f" --model_name_or_path {model_dir} --output_dir {tmp_path / 'out'}"
    command += " --logging_steps 1 --eval_steps 2 --eval_strategy steps --save_steps 2"
    ner.main(settings_from(NerSettings, [*command.split(), "--disable_tqdm", "true", *more]))
    return tmp_path / "out"


@BOTH
def test_an_interrupted_run_resumes_in_the_same_tracker(
    tmp_path, model_dir, fakes, name, monkeypatch
):
    def interrupted(log, entry, add=RunLog.add):
        add(log, entry)
        if entry["step"] == 5:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "add", interrupted)
        with pytest.raises(RuntimeError, match="killed"):
            run_ner(tmp_path, model_dir, "--report_to", name)
    output_dir = run_ner(tmp_path, model_dir, "--report_to", name)
    lines = (output_dir / "metrics.jsonl").read_text().splitlines()
    assert shown_by(name, output_dir, fakes) == wanted(map(json.loads, lines))
    assert fakes.finished == (name == "wandb")


def test_no_tracker_is_imported_unless_it_is_named(tmp_path, model_dir, monkeypatch):
    for name in ("torch.utils.tensorboard", "tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would fail
    output_dir = run_ner(tmp_path, model_dir)
    assert (output_dir / "model.safetensors").exists() and not (output_dir / "trackers").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    tmp_path, monkeypatch, name
):
    (tmp_path / name).mkdir()  # a folder of results, which Python takes for a package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ValueError) as refused:
        settings_from(NerSettings, ["--report_to", name])
    assert str(refused.value) == (
        f"--report_to {name}: the package is not installed; pip install {name}"
    )


def test_an_unknown_tracker_is_refused_and_every_form_of_none_is_taken(monkeypatch):
    monkeypatch.setattr(trackers, "_is_installed", lambda name: True)
    for name in ("all", "mlflow", "trackio"):
        with pytest.raises(ValueError, match=f"--report_to is {name}; allowed: none, tensorboard"):
            settings_from(NerSettings, ["--report_to", "tensorboard", name])
    for given in ("none", ["none"], None, []):
        assert NerSettings(report_to=given).trackers == ()
    assert NerSettings(report_to="wandb").trackers == ("wandb",)
    given = settings_from(NerSettings, ["--report_to", "tensorboard", "wandb"])
    assert given.trackers == ("tensorboard", "wandb")
