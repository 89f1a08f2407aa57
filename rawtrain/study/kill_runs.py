"""A run that is started again and again, and what it leaves each time it ends; for kill.py.

Importing torch and transformers takes seconds, a small run takes one. So this process imports
everything once, computes nothing itself, and forks: a child does what `python -m rawtrain.ner` does
after its imports. A real command is started where the imports are the point. It takes Linux.
"""

import faulthandler
import hashlib
import json
import os
import re
import select
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import matplotlib.figure  # noqa: F401  here once and not in every child
import torch
import transformers.models.bert.modeling_bert  # noqa: F401

from rawtrain import mlm, ner
from rawtrain.cli import command
from rawtrain.run import durable, signals
from rawtrain.run.checkpoint import in_folder
from rawtrain.run.durable import DELETING, MANIFEST, WRITING, DamagedError
from rawtrain.study.kill_jobs import Job

MAINS = {"ner": ner.main, "mlm": mlm.main}
HANGS_SECONDS = 60


@dataclass
class Run:
    """A run in a folder of its own, and what was seen of it over all its starts."""

    job: Job
    folder: Path
    num_kills: int = 0
    num_inside: int = 0  # of the kills, those that left something half written or half deleted
    num_signals: int = 0  # others, which a program can answer
    num_manual: int = 0  # starts after which a person would have had to do something
    most_lost: int = 0  # steps that had been done and had to be done again
    has_other_bits: bool = False
    problems: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.folder.mkdir(parents=True)
        self.output_dir = self.folder / "output"
        self.may_lose = self.job.settings(self.output_dir).save_steps

    def start(self, signals=(), fault=None, real=False):
        """Start the command, wait for its end, and look at what it left.

        signals: pairs (seconds after the one before, number), to be sent while it lives.
        fault: called in the child with the output directory, before the command begins.
        real: with the imports, in a process that was not forked from this one.

        Returns its exit code, negative for the signal that killed it.
        """
        reached, before = self.last_step, len(self.log)
        pid = self._spawn() if real else self._fork(fault)
        code = self._end_of(pid, signals)
        said = self.log[before:]
        self._note_lost(reached, said)
        if code < 0:
            self.num_kills += 1
            self.num_inside += bool(self.unfinished)
        elif code not in {0, *(128 + number for _, number in signals)}:
            self.num_manual += 1
            self.problems.append(f"exit code {code}: {' / '.join(said.splitlines()[-3:])}")
        self.problems += unsound(self.output_dir)
        return code

    def finish_like(self, expected, checkpoints_may_differ=False, real=False):
        """Start the command a last time; note what came out otherwise than `expected`.

        checkpoints_may_differ: a signal adds one, and another goes for it; those in both count.
        """
        if self.start(real=real) != 0:
            return
        found = results_of(self.output_dir)
        names = sorted(found.keys() | expected.keys())
        if checkpoints_may_differ:
            both = found.keys() & expected.keys()
            names = [name for name in names if name in both or not name.startswith("checkpoint-")]
        others = [name for name in names if found.get(name) != expected.get(name)]
        if others:
            self.has_other_bits = True
            self.problems.append(f"other bits than uninterrupted: {', '.join(others)}")

    @property
    def log(self):
        """All that the starts so far said."""
        file = self.folder / "log.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def last_step(self):
        """The last step that metrics.jsonl tells of; 0 without one."""
        return max([entry["step"] for entry in entries(self.output_dir)], default=0)

    @property
    def unfinished(self):
        """What is half written or half deleted, under names that say so."""
        signs = (WRITING, DELETING)
        return [path.name for sign in signs for path in self.output_dir.glob(f"{sign}*")]

    def _fork(self, fault):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _be_the_command(self, fault)
            except SystemExit as end:  # a second signal, at the very end of the first one's work
                code = end.code
            finally:
                os._exit(code)  # whatever was raised: the child must not go on as its parent
        return pid

    def _spawn(self):
        arguments = [sys.executable, "-m", f"rawtrain.{self.job.task}", *self.job.flags]
        log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        to_log = (os.POSIX_SPAWN_OPEN, 1, str(self.folder / "log.txt"), log_flags, 0o644)
        return os.posix_spawn(
            sys.executable,
            [*arguments, "--output_dir", str(self.output_dir)],
            os.environ | {"HF_DATASETS_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"},
            file_actions=[to_log, (os.POSIX_SPAWN_DUP2, 1, 2)],
        )

    def _end_of(self, pid, signals):
        """Send the signals and wait; the exit code, negative for the signal that ended it."""
        self.sent = []  # (number, last step before it) of each
        handle = os.pidfd_open(pid)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        for seconds, number in signals:
            if not ended.poll(seconds * 1000):
                os.kill(pid, number)
                self.num_signals += number != signal.SIGKILL
                self.sent.append((number, self.last_step))
        if not ended.poll(HANGS_SECONDS * 1000):
            self.problems.append(f"hangs: no end within {HANGS_SECONDS} seconds; where: log.txt")
            os.kill(pid, signal.SIGABRT)
        os.close(handle)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _note_lost(self, reached, said):
        resumed = re.search(r"goes on with (?:checkpoint-(\d+)|its first step)", said)
        if resumed:
            lost = reached - int(resumed[1] or 0)
            self.most_lost = max(self.most_lost, lost)
            if lost > self.may_lose:
                self.problems.append(f"after step {reached} it {resumed[0]}")


def _be_the_command(run, fault):
    """Do in a forked child what the command does after its imports; its exit code."""
    try:
        signals.listen()
        _redirect_output(run.folder / "log.txt")
        faulthandler.enable()  # tells where it hangs, at SIGABRT
        torch.set_num_threads(1)  # the model is tiny: a second thread only waits
        datasets.config.HF_DATASETS_CACHE = run.folder / "cache"
        if fault:
            fault(run.output_dir)
        command.run(MAINS[run.job.task], run.job.settings(run.output_dir))
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _redirect_output(file):
    with open(file, "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # under a test the streams of this process may not be those of the descriptors
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)


def unsound(output_dir):
    """What has its final name in an output directory and is not whole, a line each."""
    if not output_dir.exists():
        return []
    problems = []
    folders = [path for _, path in in_folder(output_dir)]
    folders += [output_dir] if (output_dir / MANIFEST).exists() else []
    for folder in folders:
        try:
            durable.verify(folder, others_allowed=folder == output_dir)
        except DamagedError as damage:
            problems.append(f"not whole under its final name: {damage}")
    for file in output_dir.glob("[!.]*.json"):
        try:
            json.loads(file.read_bytes())
        except ValueError as error:
            problems.append(f"not whole under its final name: {file}: {error}")
    return problems


def results_of(output_dir):
    """By name, all that two runs of the same bits have in common: hashes, and numbers but times."""
    patterns = ("*.safetensors", "checkpoint-*/*.safetensors", "predictions.conll")
    files = [file for pattern in patterns for file in output_dir.glob(pattern)]
    results = {
        str(file.relative_to(output_dir)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    results["metrics.jsonl"] = [_without_times(entry) for entry in entries(output_dir)]
    for file in output_dir.glob("*_results.json"):
        results[file.name] = _without_times(json.loads(file.read_bytes()))
    return results


def entries(output_dir):
    """The whole lines of metrics.jsonl; a kill may have cut the last one."""
    file = output_dir / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def _without_times(entry):
    times = ("_runtime", "_per_second")
    return {name: value for name, value in entry.items() if not name.endswith(times)}
