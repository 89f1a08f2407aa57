"""An output directory: which run it holds, which process works in it, and how far the run got.

A directory holds one run. The same command, started again, finds its run there and resumes it, or
shows its results. Another run is refused unless --overwrite_output_dir is given.
"""

import datetime
import fcntl
import json
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from rawtrain.config import TrainingSettings, public_values
from rawtrain.run import durable
from rawtrain.run.checkpoint import in_folder, newest_good
from rawtrain.run.durable import LOCK, MANIFEST, DamagedError
from rawtrain.run.identity import (
    IDENTITY_FILE,
    Identity,
    another_run,
    differences,
    output_dir_problem,
    read_identity,
    trainer_checkpoint,
)
from rawtrain.run.state import NUMBERS_FILE, read_numbers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDirectory:
    """The claim to an output directory. It lasts until the process ends, however it ends."""

    path: Path
    identity: Identity
    is_finished: bool  # trained to the end; nothing in it is trained again
    resumes_from: Path | None  # a verified checkpoint
    lock: TextIO


def claim(settings: TrainingSettings, identity: Identity) -> RunDirectory:
    """Claim the output directory for the run of this identity: new, interrupted or finished.

    Raises ValueError if another process or another run has it, and DamagedError if the run was
    interrupted or finished and nothing of it is sound.
    """
    path = Path(settings.output_dir)
    if problem := output_dir_problem(settings):
        raise ValueError(problem)
    path.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    durable.sweep(path)
    earlier = read_identity(path)
    changes = None if earlier is None else differences(earlier, identity)
    _check_start(path, changes, settings)
    is_known = changes == [] and settings.resume_from_checkpoint != "false"
    is_finished = is_known and _is_finished(path)
    if is_finished and settings.overwrite_output_dir:
        is_known = is_finished = False
    resumes_from = None
    if is_finished:
        logger.info(f"{path} holds the finished run of these settings; it is not trained again")
    elif settings.do_train:
        resumes_from = _choose_checkpoint(path, settings, identity, is_known)
    if is_known or resumes_from:
        with durable.reading((resumes_from or path) / IDENTITY_FILE):
            _keep_num_threads(read_identity(resumes_from or path))
    if not is_finished:
        if durable.listed(path) is None:
            durable.write_json(path / durable.LIST, [])
        if resumes_from is None:
            _clear(path)
        elif resumes_from.parent == path:
            durable.enter(resumes_from, is_ours=True)  # a copy, put back
        identity = identity | {"num_threads": torch.get_num_threads()}
        durable.write_json(path / IDENTITY_FILE, identity)
        write_settings(settings, path / "settings.json")
    return RunDirectory(path, identity, is_finished, resumes_from, lock)


def write_settings(settings: TrainingSettings, file: Path) -> None:
    """Write settings, without the token, as JSON that a command can read."""
    durable.write_text(file, json.dumps(public_values(settings), indent=2) + "\n")


def _check_start(path, changes, settings):
    """Raise ValueError if the run in it does not allow this one; `changes` is None without one."""
    if changes and not settings.overwrite_output_dir:
        raise ValueError(another_run(f"--output_dir {path}", changes))
    if changes is None and settings.resume_from_checkpoint == "true":
        raise ValueError(
            f"--resume_from_checkpoint true: {path} holds no run; leave it out for a first start"
        )
    is_interrupted = changes == [] and in_folder(path) and not (path / MANIFEST).exists()
    if is_interrupted and not settings.do_train:
        raise ValueError(
            f"--output_dir {path} holds a run whose training was interrupted; finish it first, "
            f"with --do_train, or choose another --output_dir"
        )


def _choose_checkpoint(path, settings, identity, is_known):
    """The checkpoint to resume from: the named one or a later one of this directory; or None.

    All checkpoints of a run lead to the same bits, so a later one only saves time.
    """
    if settings.resume_from_checkpoint not in (None, "true", "false"):
        named = Path(settings.resume_from_checkpoint)
        if not named.is_dir():
            raise ValueError(f"--resume_from_checkpoint {named}: no such folder")
        if (named / IDENTITY_FILE).exists() and not (named / NUMBERS_FILE).exists():
            raise ValueError(
                f"--resume_from_checkpoint {named}: name a checkpoint-<step> within it"
            )
        if trainers := trainer_checkpoint(named):
            raise ValueError(f"--resume_from_checkpoint: {trainers}")
        durable.verify(named)
        if changes := differences(read_identity(named) or {}, identity):
            raise ValueError(another_run(f"--resume_from_checkpoint {named}", changes))
        its_step = read_numbers(named)["step"]
        if not is_known or all(step <= its_step for step, _ in in_folder(path)):
            logger.info(f"resumes from {named}")
            return named
    if not is_known:
        return None
    if settings.match_trainer:
        logger.info(f"{path}: restarts from scratch, since --match_trainer cannot resume")
        return None
    found = newest_good(settings, identity)
    how = f"resumes from {found.name}" if found else "restarts from scratch: it has no checkpoint"
    logger.info(f"{path} holds this run, unfinished; it {how}")
    return found


def _is_finished(path):
    if not (path / MANIFEST).exists():
        return False
    try:
        durable.verify(path, others_allowed=True)
    except DamagedError as damage:
        if not in_folder(path):
            raise DamagedError(
                f"{damage}; there is no checkpoint to train it again from. Restart from scratch "
                f"with --resume_from_checkpoint false"
            ) from None
        logger.warning(f"{damage}; the end of the training is repeated")
        return False
    return True


def _keep_num_threads(identity):
    """Compute with as many threads as the run started with: they decide how sums are split."""
    num_threads = identity["num_threads"]
    assert 1 <= num_threads <= 1024, f"{num_threads} threads"
    if num_threads != torch.get_num_threads():
        logger.info(f"computes with {num_threads} threads, as it started")
        torch.set_num_threads(num_threads)


def _clear(path):
    """Delete what the run in `path` wrote: first its manifest, last its identity."""
    ours = [entry.name for entry in durable.ours(path)]
    if ours:
        logger.info(f"{path}: deletes what a run wrote there: {', '.join(ours)}")
    for name in sorted(ours, key=lambda name: (name == IDENTITY_FILE, name != MANIFEST)):
        durable.delete(path / name)


def _lock(path):
    """The open lock file of a directory. ValueError, with its holder, if another process has it.

    A record lock: it ends with its process however that ends, and worker processes do not inherit
    it. The file stays, since a process that deletes it may delete another one's.
    """
    file = (path / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise ValueError(
            f"--output_dir {path} is in use by {holder}; wait for its end, or choose another"
        ) from None
    file.truncate(0)
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}")
    file.flush()
    return file
