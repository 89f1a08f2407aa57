"""Files and folders that are there completely under their name, or not at all.

    .writing-<name>    being written: gets its name by one rename, when all of it is on the disk
    .deleting-<name>   being deleted: lost its name by one rename
    damaged-<name>     did not hold what its manifest says: kept for whoever wants to look

A rename is atomic, but what it gives a name to need not be on the disk yet: after a power cut the
name may be there and the content may not. So every file is flushed (fsync) before the manifest, the
manifest before the rename, and the folder that holds the name after it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import SafetensorError

from rawtrain.errors import RunError

MANIFEST, LOCK = "manifest.json", ".lock"
WRITING, DELETING, DAMAGED = ".writing-", ".deleting-", "damaged-"


class DamagedError(RunError):
    """Something on the disk is not what was written."""


@contextlib.contextmanager
def published(folder: Path, num_bytes: int):
    """Make `folder`: what is written within into the folder that this yields, with a manifest.

    num_bytes: about how much that is, for the message if there is no room.
    Raises RunError if it cannot be written; nothing is left of it then.
    """
    with _aside(folder, num_bytes) as aside:
        yield aside
        write_manifest(aside, aside.iterdir())
        os.rename(aside, folder)
        _flush(folder.parent)


@contextlib.contextmanager
def replaced(folder: Path, num_bytes: int, last: str):
    """Write files into `folder` beside others: first into the folder that this yields.

    last: how the names begin without which the rest is not looked at; they are moved last, and a
    manifest of all after them.
    """
    with _aside(folder / "model", num_bytes) as aside:
        yield aside
        (folder / MANIFEST).unlink(missing_ok=True)
        names = sorted(os.listdir(aside), key=lambda name: (name.startswith(last), name))
        for name in names:
            _flush(aside / name)
            os.replace(aside / name, folder / name)
        aside.rmdir()
        write_manifest(folder, [folder / name for name in names])


def write_json(file: Path, values) -> None:
    """Write JSON that replaces `file` at once. NaN is refused: no other program would read it."""
    write_text(file, json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text that replaces `file` at once."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Write what replaces `file` at once."""
    with explained(file, len(content)):
        _replace(file, content)


def delete(folder: Path) -> None:
    """Delete a folder that may be large: its name goes first."""
    doomed = folder.with_name(f"{DELETING}{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def sweep(folder: Path) -> None:
    """Remove what an earlier process left half written or half deleted in `folder`."""
    for beginning in (WRITING, DELETING):
        for path in folder.glob(f"{beginning}*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder so that nobody takes it for a good one, and return its new path."""
    number = 1
    while (aside := folder.with_name(f"{DAMAGED}{folder.name}-{number}")).exists():
        number += 1
    os.rename(folder, aside)
    _flush(folder.parent)
    return aside


def write_manifest(folder: Path, files) -> None:
    """Flush the `files` and then, with the size and the sha256 of each, the manifest."""
    files, mode = sorted(files), _usual_mode()
    for file in files:
        os.chmod(file, mode)  # safetensors makes its files for the owner alone
    with ThreadPoolExecutor() as threads:  # hashing keeps the cores busy, flushing the disk
        hashes = threads.map(_sha256, files)
        list(threads.map(_flush, files))  # raises what went wrong
    facts = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256}
        for file, sha256 in zip(files, hashes, strict=True)
    }
    _replace(folder / MANIFEST, json.dumps({"files": facts}, indent=2).encode() + b"\n")


def read_manifest(folder: Path) -> dict:
    """The files that `folder` should hold, by name: the number of bytes and the sha256 of each.

    Raises DamagedError if there is no manifest that can be read.
    """
    if (folder / MANIFEST).is_symlink():
        raise DamagedError(f"{folder / MANIFEST}: is no plain file")
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"].items()
        return {name: (facts["bytes"], facts["sha256"]) for name, facts in files}
    except FileNotFoundError:
        raise DamagedError(f"{folder}: it has no {MANIFEST}") from None
    except Exception as error:  # whatever json raises for damaged bytes, and what is no manifest
        raise DamagedError(f"{folder / MANIFEST}: cannot be read: {error!r}") from None


def verify(folder: Path, *, others_allowed: bool = False) -> None:
    """Raise DamagedError unless `folder` holds, to the last byte, the files of its manifest.

    Only plain files of the folder itself are opened, whatever names the manifest has. Other files
    are damage too, save hidden ones; a folder of results may have them.
    """
    expected = read_manifest(folder)
    found = {entry.name: entry for entry in os.scandir(folder)}
    problems = []
    for name, (num_bytes, sha256) in expected.items():
        file = found.get(name)
        if file is None:
            problems.append(f"{name} is missing")
        elif not file.is_file(follow_symlinks=False):
            problems.append(f"{name} is no plain file")
        elif file.stat().st_size != num_bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes, not {num_bytes}")
        elif _sha256(folder / name) != sha256:
            problems.append(f"{name} holds other bytes than were written")
    if not others_allowed:
        strange = [name for name in found.keys() - expected.keys() - {MANIFEST} if name[0] != "."]
        problems += [f"{name} does not belong to it" for name in sorted(strange)]
    if problems:
        raise DamagedError(f"{folder}: {', '.join(problems)}")


@contextlib.contextmanager
def explained(path: Path, num_bytes: int):
    """Turn a failed write into a RunError with the path, the bytes needed and those free."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"{path}: cannot be written: {reason}; it needs about {in_mb(num_bytes)}, "
            f"{_free(path)}. What was complete before is untouched: mend this and start the same "
            f"command again"
        ) from error


def in_mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


@contextlib.contextmanager
def _aside(folder, num_bytes):
    aside = folder.with_name(f"{WRITING}{folder.name}")
    with explained(folder, num_bytes):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _free(path):
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return f"{in_mb(shutil.disk_usage(path).free)} are free in {path}"
    except OSError:
        return f"{path} cannot be asked for its free space"


def _replace(file, content):
    aside = file.with_name(f"{WRITING}{file.name}")
    aside.write_bytes(content)
    _flush(aside)
    os.replace(aside, file)
    _flush(file.parent)


def _usual_mode():
    mask = os.umask(0o077)  # to read it is to set it
    os.umask(mask)
    return 0o666 & ~mask


def _sha256(file):
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
