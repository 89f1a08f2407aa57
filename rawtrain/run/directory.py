"""An output directory: which run it is of, who works in it, and where that run stands.

A directory holds one run. The same command started again finds its own run there and goes on with
it, or shows what came out of it; another run is kept out unless --overwrite_output_dir lets it in.
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

from rawtrain.config import public_values
from rawtrain.run import durable
from rawtrain.run.checkpoint import in_folder, newest_good, step_of
from rawtrain.run.durable import DAMAGED, DELETING, LOCK, MANIFEST, WRITING, DamagedError
from rawtrain.run.identity import IDENTITY_FILE, another_run, differences, read_identity

logger = logging.getLogger(__name__)

# Everything that a run writes, and therefore all that another one may remove.
WRITTEN = (
    MANIFEST,  # first: without it nothing here passes for a finished run
    "README.md",
    "card.json",
    "trackers",
    "settings.json",
    "metrics.jsonl",
    "trainer_state.json",
    "train_results.json",
    "eval_results.json",
    "predict_results.json",
    "all_results.json",
    "predictions.conll",
    "deployment_gap.json",
    "probes.json",
    "loss.png",
    "confusion.png",
    "report.html",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "chat_template.jinja",
    f"{DAMAGED}checkpoint-*",
    f"{WRITING}*",
    f"{DELETING}*",
    IDENTITY_FILE,
)


@dataclass(frozen=True)
class RunDirectory:
    """The claim to an output directory. It lasts until the process ends, however it ends."""

    path: Path
    identity: dict
    is_finished: bool  # trained to the end; nothing in it is trained again
    resumes_from: Path | None  # the verified checkpoint to go on with
    lock: TextIO


def open_run(settings, identity):
    """Claim the output directory for the run of this identity: new, begun or finished.

    Raises ValueError if another process or another run has it, and DamagedError if the run has
    begun and nothing of it is sound.
    """
    path = Path(settings.output_dir)
    path.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    durable.sweep(path)
    earlier = read_identity(path)
    _refuse_what_does_not_fit(path, earlier, settings, identity)

    is_known = earlier is not None and not differences(earlier, identity)
    is_known = is_known and settings.resume_from_checkpoint != "false"
    is_finished = is_known and _is_finished(path)
    if is_finished and settings.overwrite_output_dir:
        is_known = is_finished = False
    resumes_from = None
    if is_finished:
        logger.info(f"{path} holds the finished run of these settings; it is not trained again")
    elif settings.do_train:
        resumes_from = _checkpoint_to_go_on_with(path, settings, identity, is_known)
    if is_known or resumes_from:
        _keep_num_threads(read_identity(resumes_from or path))
    if not is_finished:
        if resumes_from is None:
            _clear(path)
        identity = identity | {"num_threads": torch.get_num_threads()}
        durable.write_json(path / IDENTITY_FILE, identity)
        write_settings(settings, path / "settings.json")
    return RunDirectory(path, identity, is_finished, resumes_from, lock)


def write_settings(settings, file):
    """Write settings as JSON that a command reads again, without the token."""
    durable.write_text(file, json.dumps(public_values(settings), indent=2) + "\n")


def _refuse_what_does_not_fit(path, earlier, settings, identity):
    changes = differences(earlier, identity) if earlier else []
    if changes and not settings.overwrite_output_dir:
        raise ValueError(another_run(f"--output_dir {path}", changes))
    if earlier is None and settings.resume_from_checkpoint == "true":
        raise ValueError(
            f"--resume_from_checkpoint true: {path} holds no run; leave it out for a first start"
        )
    unfinished = earlier and not changes and in_folder(path) and not (path / MANIFEST).exists()
    if unfinished and not settings.do_train:
        raise ValueError(
            f"--output_dir {path} holds a run whose training was interrupted; finish it first, "
            f"with --do_train, or choose another --output_dir"
        )


def _checkpoint_to_go_on_with(path, settings, identity, is_known):
    """The checkpoint that is named, or a later one of the directory's own; None to begin anew.

    Checkpoints of one run lie on one way: going on from a later one ends with the same bits.
    """
    asked = settings.resume_from_checkpoint
    if asked not in (None, "true", "false"):
        given, step = _given_checkpoint(Path(asked), identity)
        later = is_known and any(own > step for own, _ in in_folder(path))
        found = newest_good(settings, identity) if later else given
        logger.info(f"goes on with {found}")
        return found
    if not is_known:
        return None
    if settings.match_trainer:
        logger.info(f"{path}: begins again, since --match_trainer cannot go on where it was")
        return None
    found = newest_good(settings, identity)
    where = found.name if found else "its first step: it has no checkpoint yet"
    logger.info(f"{path} holds this very run, unfinished; it goes on with {where}")
    return found


def _is_finished(path):
    if not (path / MANIFEST).exists():
        return False
    try:
        durable.verify(path, others_allowed=True)
    except DamagedError as damage:
        if not in_folder(path):
            raise DamagedError(
                f"{damage}; there is no checkpoint to make it again from. Begin again with "
                f"--resume_from_checkpoint false"
            ) from None
        logger.warning(f"{damage}; the final model is made again")
        return False
    return True


def _given_checkpoint(path, identity):
    """The checkpoint that is named, verified and of this run, and its step."""
    if not path.is_dir():
        raise ValueError(f"--resume_from_checkpoint {path}: no such folder")
    durable.verify(path)
    changes = differences(read_identity(path) or {}, identity)
    if changes:
        raise ValueError(another_run(f"--resume_from_checkpoint {path}", changes))
    return path, step_of(path)


def _keep_num_threads(identity):
    """Compute with as many threads as the run began with: they decide how sums are cut up."""
    num_threads = identity["num_threads"]
    if num_threads != torch.get_num_threads():
        logger.info(f"computes in {num_threads} threads, as it began")
        torch.set_num_threads(num_threads)


def _clear(path):
    for pattern in WRITTEN:
        for found in path.glob(pattern):
            durable.delete(found) if found.is_dir() else found.unlink()
    for _, checkpoint in in_folder(path):
        durable.delete(checkpoint)


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
