"""Files and folders that exist completely under their name, or not at all.

    .writing-<name>    being written; renamed to <name> when all of it is on the disk
    .deleting-<name>   being deleted; renamed from <name> before its first file goes
    damaged-<name>     does not hold what its manifest says; kept for inspection
    written.json       the names of all that the run of a folder wrote there, listed beforehand;
                       nothing else in it is ever written over, renamed or deleted

A rename is atomic, but it says nothing about the content: after a power cut the new name may be on
the disk without it. So every file is flushed (fsync) before the manifest is written, the manifest
before the rename, and the parent folder after it.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rawtrain.data.files import sha256_of
from rawtrain.errors import RunError

MANIFEST, LOCK, LIST = "manifest.json", ".lock", "written.json"
WRITING, DELETING, DAMAGED = ".writing-", ".deleting-", "damaged-"


class DamagedError(RunError):
    """Something on the disk is not what was written."""


@contextlib.contextmanager
def published(folder: Path, num_bytes: int) -> Iterator[Path]:
    """Create `folder` from what the caller writes into the folder that this yields.

    num_bytes: about how much that is, for the message about a full disk.
    Raises RunError if it cannot be written, and leaves nothing of it.
    """
    with _aside(folder, num_bytes) as aside:
        yield aside
        write_manifest(aside, aside.iterdir())
        os.rename(aside, folder)
        _flush(folder.parent)


@contextlib.contextmanager
def replaced(folder: Path, num_bytes: int, last: str) -> Iterator[Path]:
    """Move what the caller writes into the folder that this yields to `folder`, beside its files.

    last: how the names of the files begin that make the others usable. They are moved last, and the
    manifest of all follows them: an interrupted move leaves `folder` without a manifest.
    """
    with _aside(folder / "config.json", num_bytes) as aside:  # any name that it gets
        yield aside
        enter(folder / MANIFEST)
        (folder / MANIFEST).unlink(missing_ok=True)
        names = sorted(os.listdir(aside), key=lambda name: (name.startswith(last), name))
        for name in names:
            _flush(aside / name)
            enter(folder / name)
            os.replace(aside / name, folder / name)
        write_manifest(folder, [folder / name for name in names])


def write_manifest(folder: Path, files: Iterable[Path]) -> None:
    """Flush the `files`, then write the manifest: the size and the SHA-256 of each."""
    files = sorted(files)
    umask = os.umask(0o077)  # setting it is the only way to read it
    os.umask(umask)
    for file in files:
        os.chmod(file, 0o666 & ~umask)  # safetensors makes its files readable by the owner alone
    with ThreadPoolExecutor() as threads:  # hashing keeps the cores busy, flushing the disk
        hashes = threads.map(sha256_of, files)
        list(threads.map(_flush, files))  # raises the error of a thread
    facts = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256}
        for file, sha256 in zip(files, hashes, strict=True)
    }
    _replace(folder / MANIFEST, json.dumps({"files": facts}, indent=2).encode() + b"\n")


def write_json(file: Path, values: Any) -> None:
    """Replace `file` by JSON, see `json_text`."""
    write_text(file, json_text(values, indent=2, sort_keys=True) + "\n")


def json_text(values: Any, **form: Any) -> str:
    """JSON for any program: infinity is 1e999, read as infinite again. ValueError for NaN."""

    def without_names(found):
        if found[0] == "NaN":
            raise ValueError(f"NaN is not JSON compliant: {values}")
        return "1e999" if found[0] == "Infinity" else found[0]

    return re.sub(r'"(?:\\.|[^"\\])*"|NaN|Infinity', without_names, json.dumps(values, **form))


def write_text(file: Path, text: str) -> None:
    """Replace `file` by UTF-8 text; what a path has that is no text is escaped."""
    write_bytes(file, text.encode(errors="backslashreplace"))


def write_bytes(file: Path, content: bytes) -> None:
    """Replace `file` by other content in one rename."""
    with explained(file, len(content)):
        _replace(file, content)


@contextlib.contextmanager
def explained(path: Path, num_bytes: int) -> Iterator[None]:
    """Turn a failed write into a RunError with the path, the bytes needed and those free."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        place = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
        free_bytes = shutil.disk_usage(place).free
        raise RunError(
            f"{path}: cannot be written: {reason}; it needs about {num_bytes / 1e6:,.1f} MB, "
            f"{free_bytes / 1e6:,.1f} MB are free in {place}. What was complete before is "
            f"untouched: solve this and start the same command again"
        ) from error


def verify(folder: Path, *, others_allowed: bool = False) -> None:
    """Raise DamagedError unless `folder` holds the files of its manifest, to the last byte.

    Whatever names the manifest has, only plain files of the folder itself are opened. Other files
    are damage too, unless they are hidden or `others_allowed`, as in a folder of results.
    """
    expected = read_manifest(folder)
    found = {entry.name: entry for entry in os.scandir(folder)}
    problems = []
    for name, (num_bytes, sha256) in expected.items():
        file = found.get(name)
        if file is None:
            problems.append(f"{name} is missing")
        elif not file.is_file(follow_symlinks=False):
            problems.append(f"{name} is not a plain file")
        elif file.stat().st_size != num_bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes, not {num_bytes}")
        elif sha256_of(folder / name) != sha256:
            problems.append(f"{name} holds other bytes than were written")
    if not others_allowed:
        strange = [name for name in found.keys() - expected.keys() - {MANIFEST} if name[0] != "."]
        problems += [f"{name} does not belong to it" for name in sorted(strange)]
    if problems:
        raise DamagedError(f"{folder}: {', '.join(problems)}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn anything that content of others raises (a missing name, a list) into a DamagedError."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedError(f"{path}: cannot be read: {text}") from error


def read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """The number of bytes and the SHA-256 of each file that `folder` should hold, by name."""
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise DamagedError(f"{folder}: has no {MANIFEST}")
    if file.is_symlink() or not file.is_file():
        raise DamagedError(f"{file}: is not a plain file")
    with reading(file):
        files = json.loads(file.read_bytes())["files"].items()
        return {name: (facts["bytes"], facts["sha256"]) for name, facts in files}


def listed(folder: Path) -> list[str] | None:
    """The names in `folder` that its run wrote or was about to write; None without a list."""
    if not (folder / LIST).exists():
        return None
    with reading(folder / LIST):
        names = json.loads((folder / LIST).read_bytes())
        if elsewhere := [name for name in names if name in ("", "..") or Path(name).name != name]:
            raise ValueError(f"{elsewhere[0]!r} is no name in this folder")
        return names


def ours(folder: Path, pattern: str = "*") -> list[Path]:
    """What its run wrote into `folder`; all that is there, if it has no list."""
    names = listed(folder)
    return sorted(path for path in folder.glob(pattern) if names is None or path.name in names)


def enter(path: Path, *, is_ours: bool = False) -> None:
    """List `path` before it is written, if its folder has a list.

    Raises RunError if something is there that is not listed, unless it is known to be the run's.
    """
    names = listed(path.parent)
    if names is None or path.name in (LIST, *names):
        return
    if os.path.lexists(path) and not is_ours:
        raise RunError(
            f"{path}: this run has to write it, but did not write what is there; move that away "
            f"and start the same command again"
        )
    write_json(path.parent / LIST, [*names, path.name])


def delete(path: Path) -> None:
    """Delete a file, or a folder that may be large: its name goes first."""
    doomed = path.with_name(f"{DELETING}{path.name}")
    _remove(doomed)
    os.rename(path, doomed)
    _remove(doomed)
    if names := listed(path.parent):
        write_json(path.parent / LIST, [name for name in names if name != path.name])


def sweep(folder: Path) -> None:
    """Remove what an earlier process of the run left half written or half deleted in `folder`."""
    names = listed(folder) or []
    for name in (LIST, *names):
        _remove(folder / f"{WRITING}{name}")
        _remove(folder / f"{DELETING}{name}")
    if lost := [name for name in names if not os.path.lexists(folder / name)]:
        write_json(folder / LIST, [name for name in names if name not in lost])


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder, so that nobody takes it for a sound one, and return its new path."""
    number = 1
    while (aside := folder.with_name(f"{DAMAGED}{folder.name}-{number}")).exists():
        number += 1
    enter(aside)
    os.rename(folder, aside)
    _flush(folder.parent)
    return aside


@contextlib.contextmanager
def _aside(folder, num_bytes):
    aside = folder.with_name(f"{WRITING}{folder.name}")
    with explained(folder, num_bytes):
        enter(folder)
        _remove(aside)
        aside.mkdir()
        try:
            yield aside
        finally:
            _remove(aside)


def _remove(path):
    """Delete a file or a folder, if it is there; of a link, the link."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _replace(file, content):
    enter(file)
    aside = file.with_name(f"{WRITING}{file.name}")
    aside.write_bytes(content)
    _flush(aside)
    os.replace(aside, file)
    _flush(file.parent)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
