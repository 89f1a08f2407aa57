"""The stages of a run at which kill.py can kill it: its calls that change files.

The calls are wrapped in the forked child alone; the program itself knows nothing of this. "Half" is
a kill in the middle of a write: the call is let through, and its file cut to half its bytes.
"""

import functools
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import transformers

from rawtrain.run import state
from rawtrain.run.log import RunLog


def _of_directory_entry(path, *, dir_fd=None):
    """The path that os.unlink and os.rmdir mean when shutil.rmtree calls them."""
    return path if dir_fd is None else Path(os.readlink(f"/proc/self/fd/{dir_fd}"), path)


# By the name of a stage: the function, and how to find the path that it works on.
CALLS = {
    "mkdir": (os, "mkdir", lambda path, *_, **__: path),
    "write": (Path, "write_bytes", lambda path, _: path),
    "write text": (Path, "write_text", lambda path, *_, **__: path),
    "write model": (transformers.PreTrainedModel, "save_pretrained", lambda _, path, **__: path),
    "write tokenizer": (
        transformers.PreTrainedTokenizerBase,
        "save_pretrained",
        lambda _, path, **__: path,
    ),
    "write optimizer": (state, "save_file", lambda _, path: path),
    "write entry": (RunLog, "add", lambda log, _: log.metrics_file),
    "flush": (os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}")),
    "rename": (os, "rename", lambda _, new: new),
    "replace": (os, "replace", lambda _, new: new),
    "unlink": (os, "unlink", _of_directory_entry),
    "rmdir": (os, "rmdir", _of_directory_entry),
}


@dataclass(frozen=True)
class Stage:
    """The `occurrence`-th call of this name, counted from 1 in a process."""

    name: str  # such as "rename checkpoint-N"
    occurrence: int
    when: str = "before"  # or "half", or "after" the call

    def __str__(self):
        return f"{self.when} {self.name}, number {self.occurrence}"


def watch(output_dir, around):
    """Hand every call on a file of `output_dir` to `around(name, path, call)` in this process."""
    for verb, (owner, attribute, find_path) in CALLS.items():
        original = getattr(owner, attribute)

        def wrapped(*args, original=original, verb=verb, find_path=find_path, **kwargs):
            path, call = find_path(*args, **kwargs), functools.partial(original, *args, **kwargs)
            if path is None or not Path(path).is_relative_to(output_dir):
                return call()
            place = re.sub(r"\d+", "N", os.path.relpath(path, output_dir))
            return around(f"{verb} {place}", Path(path), call)

        setattr(owner, attribute, wrapped)


def note(file, output_dir):
    """A fault that is none: write the name of every stage into `file` as it begins."""

    def around(name, path, call):
        with file.open("a") as notes:
            notes.write(f"{name}\n")
        return call()

    watch(output_dir, around)


def die_at(stage, output_dir):
    """A fault: kill this process with SIGKILL at `stage`."""
    num_calls = 0

    def around(name, path, call):
        nonlocal num_calls
        num_calls += name == stage.name
        if name != stage.name or num_calls != stage.occurrence:
            return call()
        if stage.when != "before":
            call()
        if stage.when == "half":
            _cut(path)
        _die()

    watch(output_dir, around)


def die_soon_after(number, seconds, output_dir):
    """A fault: from the `number`-th stage on, whichever it is, live `seconds` more.

    The kernel keeps the time: its alarm ends the process wherever it is, as SIGKILL would.
    """
    num_calls = 0
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def around(name, path, call):
        nonlocal num_calls
        num_calls += 1
        if num_calls == number:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        return call()

    watch(output_dir, around)


def read_stages(file):
    """All stages of a run that `note` noted, in order."""
    stages, counts = [], {}
    for name in file.read_text().splitlines():
        counts[name] = counts.get(name, 0) + 1
        stages.append(Stage(name, counts[name]))
    return stages


def to_kill_at(stages):
    """Of each name the first, a middle and the last stage; before, and half-way through a write.

    After a call is before the next one, save for what gives a name: there it is worth its own kill.
    """
    last = {stage.name: stage.occurrence for stage in stages}
    chosen = []
    for name, num_calls in last.items():
        whens = ["before"]
        if name.startswith("write ") or re.fullmatch(r"flush .*\.writing-.*\w\.\w+", name):
            whens.append("half")
        if name.startswith(("rename ", "replace ")):
            whens.append("after")
        for occurrence in sorted({1, (num_calls + 1) // 2, num_calls}):
            chosen += [Stage(name, occurrence, when) for when in whens]
    return chosen


def _cut(path):
    """Cut a file, or what was last written into a folder, to half its bytes."""
    if path.is_dir():
        path = max(path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    os.truncate(path, path.stat().st_size // 2)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # nothing may follow
