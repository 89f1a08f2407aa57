"""A run that is started again and again, and what can strike it; kill.py has the experiments.

Importing torch and transformers takes seconds, a small run takes one. So this process imports
everything once, computes nothing itself, and forks: a child does what `python -m rawtrain.ner` does
after its imports. It takes Linux.

No kill comes at a time of the clock: it comes at a call of the run that changes a file, or when the
run has had so many seconds of a processor. So it hits the same instants on a busy machine.
"""

import faulthandler
import functools
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import datasets
import matplotlib.figure  # noqa: F401  here once and not in every child
import torch
import transformers.models.bert.modeling_bert  # noqa: F401
from transformers import PreTrainedModel

from rawtrain import mlm, ner
from rawtrain.cli import command
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.files import sha256_of
from rawtrain.run import durable, signals, state
from rawtrain.run.checkpoint import in_folder
from rawtrain.run.durable import DELETING, MANIFEST, WRITING, DamagedError
from rawtrain.run.log import RunLog

IDLE_SECONDS = 120  # a run that has something to do gets a processor in that time, on any machine
RESUMES = re.compile(r"it (?:resumes from checkpoint-(\d+)|restarts from scratch)")
TASKS: dict[str, tuple[Callable, type]] = {
    "ner": (ner.main, NerSettings),
    "mlm": (mlm.main, MlmSettings),
}


@dataclass(frozen=True)
class Job:
    """A command: `python -m rawtrain.<task> data/<task>.json <flags> --output_dir ...`."""

    task: str
    flags: str

    def arguments(self, folder: Path) -> list[str]:
        settings_file = folder.parent / "data" / f"{self.task}.json"
        return [str(settings_file), *self.flags.split(), "--output_dir", str(folder / "output")]


class KilledRun:
    """A run of `job` in a new folder, and what was seen of it over all its starts."""

    def __init__(self, job: Job, parent: Path):
        self.job, self.folder = job, Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        self.output_dir, self.log_file = self.folder / "output", self.folder / "log.txt"
        self.log_file.touch()
        self.main, settings_class = TASKS[job.task]
        self.settings = command.settings_from(settings_class, job.arguments(self.folder))
        self.may_lose = self.settings.save_steps
        self.num_kills = self.num_signals = 0  # SIGKILL, and those that a program can answer
        self.num_inside = 0  # of the kills, those that left something half written or half deleted
        self.most_lost = 0  # steps that had been done and had to be done again
        self.problems: list[str] = []
        # of the last start, and its time of a processor
        self.said, self.seconds = "", 0.0
        self.sent: list[tuple[signal.Signals, int]] = []  # with the last step before it
        self.resumed_from: int | None = None  # the step; None if it was no resumption

    def start(self, to_send: Iterable = (), fault: Callable | None = None) -> int:
        """Start the command, wait for its end, and look at what it left.

        to_send: pairs (seconds of a processor that the run has had by then, signal).
        fault: called in the child with the output directory, before the command begins.

        Returns its exit code, negative for the signal that killed it.
        """
        reached, log_bytes = self.last_step, self.log_file.stat().st_size
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            self._be_the_command(fault)
        code = self._end_of(pid, to_send)
        self.said = self.log_file.read_bytes()[log_bytes:].decode(errors="replace")
        resumed = RESUMES.search(self.said)
        self.resumed_from = int(resumed[1] or 0) if resumed else None
        lost = reached - self.resumed_from if self.resumed_from is not None else 0
        self.most_lost = max(self.most_lost, lost)
        if lost > self.may_lose:
            self.problems.append(f"after step {reached} it went on after {self.resumed_from}")
        if code == -signal.SIGKILL:
            self.num_kills += 1
            self.num_inside += bool(self.unfinished)
        elif code != 0 and code - 128 not in [n for n, _ in self.sent if n in signals.ENDING]:
            self.problems.append(f"exit code {code}: {' / '.join(self.said.splitlines()[-3:])}")
        self.problems += unsound(self.output_dir)
        return code

    def finish_like(self, whole: "KilledRun", checkpoints_count=True) -> None:
        """Start the command a last time; note what came out otherwise than of the run `whole`."""
        if self.start() == 0:
            found, expected = results_of(self.output_dir), results_of(whole.output_dir)
            names = found.keys() | expected.keys()
            others = sorted(name for name in names if found.get(name) != expected.get(name))
            if not checkpoints_count:
                others = [name for name in others if not name.startswith("checkpoint-")]
            if others:
                self.problems.append(f"other bits than uninterrupted: {', '.join(others)}")

    @property
    def last_step(self) -> int:
        """The last step that metrics.jsonl tells of; 0 without one."""
        return max([entry["step"] for entry in entries(self.output_dir)], default=0)

    @property
    def num_calls(self) -> dict[str, int]:
        """How many calls of each name `note` has noted."""
        return Counter((self.folder / "calls.txt").read_text().splitlines())

    @property
    def unfinished(self) -> list[str]:
        """What is half written or half deleted, under names that say so."""
        found = [self.output_dir.glob(f"{sign}*") for sign in (WRITING, DELETING)]
        return [path.name for paths in found for path in paths]

    def _be_the_command(self, fault) -> NoReturn:
        """What a forked child does: whatever is raised, it never goes on as its parent."""
        code = 1
        try:
            with self.log_file.open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            signals.listen()
            faulthandler.enable()  # tells where it hangs, at SIGABRT
            torch.set_num_threads(1)  # the model is tiny: a second thread only waits
            datasets.config.HF_DATASETS_CACHE = self.folder / "cache"
            if fault:
                fault(self.output_dir)
            command.run(self.main, self.settings)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            print(end="", file=sys.stderr, flush=True)
            os._exit(code)

    def _end_of(self, pid, to_send):
        """Send the signals and wait for the end; the exit code."""
        self.sent, self.seconds, waiting = [], -1.0, list(to_send)
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            seconds = time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) has it
            if seconds > self.seconds:
                self.seconds, busy_at = seconds, time.monotonic()
            elif time.monotonic() > busy_at + IDLE_SECONDS:
                os.kill(pid, signal.SIGABRT)  # it hangs: exit code -6, and log.txt tells where
            if waiting and seconds >= waiting[0][0]:
                _, number = waiting.pop(0)
                os.kill(pid, number)
                self.sent.append((number, self.last_step))
                self.num_signals += number != signal.SIGKILL
            time.sleep(0.001)
        return os.waitstatus_to_exitcode(ended[1])


# What a run leaves


def unsound(output_dir: Path) -> list[str]:
    """What has its final name in an output directory and is not whole, a line each."""
    if not output_dir.exists():
        return []
    problems = []
    folders = [path for _, path in in_folder(output_dir)]
    folders += [output_dir] if (output_dir / MANIFEST).exists() else []
    for path in [*folders, *output_dir.glob("[!.]*.json")]:
        try:
            if path.is_dir():
                durable.verify(path, others_allowed=path == output_dir)
            else:
                json.loads(path.read_bytes())
        except (DamagedError, ValueError) as error:
            problems.append(f"not whole under its final name: {path.name}: {error}")
    return problems


def results_of(output_dir: Path) -> dict[str, Any]:
    """By name, all that two runs of the same bits have in common: hashes, and numbers but times."""
    patterns = ("*.safetensors", "checkpoint-*/*.safetensors", "predictions.conll")
    files = [file for pattern in patterns for file in output_dir.glob(pattern)]
    results: dict[str, Any] = {str(f.relative_to(output_dir)): sha256_of(f) for f in files}
    for file in output_dir.glob("*_results.json"):
        results[file.name] = _without_times(file.read_bytes())
    return results | {"metrics.jsonl": entries(output_dir)}


def entries(output_dir: Path) -> list[dict]:
    """The whole lines of metrics.jsonl; a kill may have cut the last one."""
    file = output_dir / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [_without_times(line) for line in lines]


def _without_times(text):
    times = ("_runtime", "_per_second")
    return {name: value for name, value in json.loads(text).items() if not name.endswith(times)}


# Stages and faults: calls are wrapped in the child alone, and the program knows nothing of it

# By the first words of a stage's name: the function, and how to find the path that it works on.
CALLS: dict[str, tuple[Any, str, Callable]] = {
    "mkdir": (os, "mkdir", lambda path, *_, **__: path),
    "write": (Path, "write_bytes", lambda path, _: path),
    "write text": (Path, "write_text", lambda path, *_, **__: path),
    "write model": (PreTrainedModel, "save_pretrained", lambda _, path, **__: path),
    "write optimizer": (state, "save_file", lambda _, path: path),
    "write entry": (RunLog, "add", lambda log, _: log.metrics_file),
    "flush": (os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}")),
    "rename": (os, "rename", lambda _, new: new),
    "replace": (os, "replace", lambda _, new: new),
    "unlink": (os, "unlink", lambda path, **_: path),
    "rmdir": (os, "rmdir", lambda path, **_: path),
}


@dataclass(frozen=True)
class Stage:
    """The `occurrence`-th call of this name, counted from 1 in each start."""

    name: str  # such as "rename checkpoint-N"
    occurrence: int
    when: str = "before"  # or "half", or "after" the call


def watch(output_dir: Path, around: Callable) -> None:
    """Hand every call on a file of `output_dir` to `around(name, occurrence, path, call)`."""
    num_calls: Counter[str] = Counter()
    for verb, (owner, attribute, find_path) in CALLS.items():
        original = getattr(owner, attribute)

        def wrapped(*args, original=original, verb=verb, find_path=find_path, **kwargs):
            path, call = find_path(*args, **kwargs), functools.partial(original, *args, **kwargs)
            if kwargs.get("dir_fd"):  # from shutil.rmtree
                path = Path(os.readlink(f"/proc/self/fd/{kwargs['dir_fd']}"), path)
            if path is None or not Path(path).is_relative_to(output_dir):
                return call()
            name = f"{verb} {re.sub('[0-9]+', 'N', os.path.relpath(path, output_dir))}"
            num_calls[name] += 1
            return around(name, num_calls[name], Path(path), call)

        setattr(owner, attribute, wrapped)


def note(output_dir: Path) -> None:
    """A fault that is none: write down the name of every call, for `num_calls`."""

    def around(name, occurrence, path, call):
        with (output_dir.parent / "calls.txt").open("a") as notes:
            notes.write(f"{name}\n")
        return call()

    watch(output_dir, around)


def die_at(stage: Stage, output_dir: Path) -> None:
    """A fault: kill this process at `stage`.

    "Half" is a kill in the middle of a write: the call is let through, and then what it wrote is
    cut to half its bytes; of a folder, the file that was written last.
    """

    def around(name, occurrence, path, call):
        if (name, occurrence) != (stage.name, stage.occurrence):
            return call()
        if stage.when != "before":
            call()
        if stage.when == "half":
            if path.is_dir():
                path = max(path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
            os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    watch(output_dir, around)
