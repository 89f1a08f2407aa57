"""Encoded data on disk: written once, then read back memory-mapped.

    <cache>/<key>/input_ids.bin ...   the numbers of an array each
    <cache>/<key>/entry.json          their types, and a checksum of everything

The key is a hash of everything that determines the content, so an entry is never out of date. It is
written under another name, renamed when it is complete, and verified before it is used.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import tokenizers

from rawtrain.config import DataSettings
from rawtrain.data.files import sha256_of

logger = logging.getLogger(__name__)
warn_once = functools.cache(logger.warning)

FORMAT = 5  # raise it whenever something else is written for the same data and settings
SECONDS_A_DAY = 24 * 60 * 60

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cache:
    """A folder of entries; `overwrite`: write them again."""

    folder: Path
    overwrite: bool = False

    def fetch(self, key: str, chunks: Callable[[], Iterable[Arrays]]) -> Arrays:
        """The arrays stored under `key`, or else those of all `chunks()`, concatenated and stored.

        They are read-only and memory-mapped, or in memory where the folder cannot be written.
        """
        entry = self.folder / key
        if not self.overwrite and entry.exists():
            with contextlib.suppress(Exception):  # whatever json and numpy raise for damaged files
                found = _read(entry)
                logger.info(f"encoded rows come from the cache: {entry}")
                return found
            logger.warning(f"{entry} is damaged; the data is encoded again")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove_what_killed_processes_left(self.folder)
            with tempfile.TemporaryDirectory(prefix=".writing-", dir=self.folder) as aside:
                written = _write(Path(aside) / key, chunks())
                _publish(Path(aside) / key, entry)
                return written
        except OSError as error:
            warn_once(
                f"encoded rows cannot be kept in {self.folder}: {error.strerror or error}; "
                f"this run continues without the cache, and the next one encodes again"
            )
        return in_memory(chunks())


def cache_of(settings: DataSettings) -> Cache:
    """The cache of the jobs, inside that of `datasets`: HF_HOME and HF_DATASETS_CACHE move it."""
    return Cache(Path(datasets.config.HF_DATASETS_CACHE) / "rawtrain", settings.overwrite_cache)


def key_of(backend: tokenizers.Tokenizer, **facts: Any) -> str | None:
    """The key of what `backend`, as it is set now, makes of the data that `facts` describe.

    None for a tokenizer with a part written in Python (RoFormer's), which cannot be serialized.
    """
    try:
        facts["tokenizer"] = sha256_of(backend.to_str())
    except Exception as error:  # the backend raises plain Exceptions
        warn_once(f"encoded rows are not cached: {error}")
        return None
    facts["encode_special_tokens"] = backend.encode_special_tokens  # not part of the serial form
    facts |= {"format": FORMAT, "tokenizers": tokenizers.__version__}
    return sha256_of(json.dumps(facts, sort_keys=True))


def in_memory(chunks: Iterable[Arrays]) -> Arrays:
    """What `Cache.fetch` returns, without a disk."""
    parts: dict[str, list[np.ndarray]] = {}
    for arrays in chunks:
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _remove_what_killed_processes_left(folder: Path) -> None:
    for left in folder.glob(".writing-*"):
        if time.time() - left.stat().st_mtime > SECONDS_A_DAY:
            shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, chunks: Iterable[Arrays]) -> Arrays:
    """Write an entry, and return its arrays, mapped."""
    folder.mkdir()
    types: dict[str, str] = {}
    for arrays in chunks:
        for name, array in arrays.items():
            assert types.setdefault(name, array.dtype.str) == array.dtype.str, (name, array.dtype)
            with (folder / f"{name}.bin").open("ab") as file:
                file.write(np.ascontiguousarray(array).data)
    arrays = _mapped(folder, types)
    entry = {"types": types, "crc32": _checksum(types, arrays)}
    (folder / "entry.json").write_text(json.dumps(entry, indent=2) + "\n")
    return arrays


def _read(folder: Path) -> Arrays:
    """The arrays in `folder`. Raises some exception unless all are as they were written."""
    entry = json.loads((folder / "entry.json").read_bytes())
    arrays = _mapped(folder, entry["types"])
    if entry["crc32"] != _checksum(entry["types"], arrays):
        raise ValueError(folder)
    return arrays


def _publish(aside: Path, folder: Path) -> None:
    """Rename a complete entry to its key. A process that reads an older one keeps its arrays."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rename(aside, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same rows
            raise


def _mapped(folder: Path, types: dict[str, str]) -> Arrays:
    arrays = {}
    for name, dtype in types.items():
        file = folder / f"{name}.bin"
        # An empty file cannot be mapped, and slicing a np.memmap costs several times as much.
        is_empty = file.stat().st_size == 0
        arrays[name] = np.empty(0, dtype) if is_empty else np.asarray(np.memmap(file, dtype, "r"))
    return arrays


def _checksum(types: dict[str, str], arrays: Arrays) -> int:
    checksum = zlib.crc32(json.dumps(types, sort_keys=True).encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(arrays[name].data, checksum)
    return checksum
