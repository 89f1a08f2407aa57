"""Encoded data on disk: written once, then read back memory-mapped.

    <cache>/<key>/input_ids.bin ...   the numbers of an array each
    <cache>/<key>/entry.json          their types, lengths and checksums, and some counts

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
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import tokenizers

from rawtrain.config import DataSettings
from rawtrain.data.files import sha256_of

logger = logging.getLogger(__name__)

FORMAT = 2  # raise it whenever something else is written for the same data and settings
SECONDS_A_DAY = 24 * 60 * 60

Arrays = dict[str, np.ndarray]
Counts = dict[str, int]
Chunks = Iterable[tuple[Arrays, Counts]]


@dataclass(frozen=True)
class Cache:
    """A folder of entries; `overwrite`: write them again."""

    folder: Path
    overwrite: bool = False

    def fetch(self, key: str | None, chunks: Callable[[], Chunks]) -> tuple[Arrays, Counts]:
        """The arrays and counts stored under `key`, or else made from `chunks()` and stored.

        Arrays of the same name are concatenated, counts are summed. The arrays are read-only and
        memory-mapped. Without a key, or where the folder cannot be written, their files are
        temporary and vanish with the process.
        """
        if key is None:
            return _temporary(chunks())
        found = None if self.overwrite else _read(self.folder / key)
        if found:
            logger.info(f"encoded rows come from the cache: {self.folder / key}")
            return found
        return self._written(key, chunks()) or _temporary(chunks())

    def _written(self, key, chunks):
        """The new entry; None if it could not be written."""
        entry = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _sweep(self.folder)
            with tempfile.TemporaryDirectory(
                prefix=".writing-", dir=self.folder, ignore_cleanup_errors=True
            ) as aside:
                entry = _write(Path(aside) / key, chunks)
                _publish(Path(aside) / key, self.folder / key)
        except OSError as error:
            _warn_once(
                f"encoded rows cannot be kept in {self.folder}: {error.strerror or error}; "
                f"this run continues without the cache, and the next one encodes again"
            )
        return entry


def cache_of(settings: DataSettings) -> Cache:
    """The cache of the jobs, inside that of `datasets`: HF_HOME and HF_DATASETS_CACHE move it."""
    return Cache(Path(datasets.config.HF_DATASETS_CACHE) / "rawtrain", settings.overwrite_cache)


def key_of(backend: tokenizers.Tokenizer, **facts: Any) -> str | None:
    """The key of what `backend`, as it is set now, makes of the data that `facts` describe.

    None for a tokenizer with a part written in Python (RoFormer's), which cannot be serialized.
    """
    try:
        tokenizer = backend.to_str()
    except Exception as error:  # the backend raises plain Exceptions
        _warn_once(f"encoded rows are not cached: {error}")
        return None
    facts |= {
        "format": FORMAT,
        "tokenizers": tokenizers.__version__,
        "tokenizer": sha256_of(tokenizer),
        "encode_special_tokens": backend.encode_special_tokens,  # not part of the serial form
    }
    return sha256_of(json.dumps(facts, sort_keys=True))


def in_memory(chunks: Chunks) -> tuple[Arrays, Counts]:
    """What `Cache.fetch` returns, without a disk."""
    parts: dict[str, list[np.ndarray]] = {}
    counts: Counter[str] = Counter()
    for arrays, numbers in chunks:
        counts.update(numbers)
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, dict(counts)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind more than a day ago."""
    for left in folder.glob(".writing-*"):
        if time.time() - left.stat().st_mtime > SECONDS_A_DAY:
            shutil.rmtree(left, ignore_errors=True)


def _read(folder: Path) -> tuple[Arrays, Counts] | None:
    """The entry in `folder`, with every byte verified; None if there is none or it is damaged."""
    if not folder.exists():
        return None
    with contextlib.suppress(Exception):  # whatever json and numpy raise for damaged files
        noted = json.loads((folder / "entry.json").read_bytes())
        facts, counts = noted["arrays"], noted["counts"]
        arrays = _mapped(folder, facts)
        found = {name: _facts(array, zlib.crc32(array)) for name, array in arrays.items()}
        if found == facts and noted["crc32"] == _entry_sum(facts, counts):
            return arrays, counts
    logger.warning(f"{folder} is damaged; the data is encoded again")
    return None


def _temporary(chunks: Chunks) -> tuple[Arrays, Counts]:
    """An entry whose files are deleted at once: what is mapped stays readable."""
    with tempfile.TemporaryDirectory(prefix="rawtrain-", ignore_cleanup_errors=True) as folder:
        return _write(Path(folder) / "entry", chunks)


def _write(folder: Path, chunks: Chunks) -> tuple[Arrays, Counts]:
    """Write an entry, and return it as it is read back."""
    folder.mkdir()
    files: dict[str, BinaryIO] = {}
    facts: dict[str, dict] = {}
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for arrays, numbers in chunks:
            counts.update(numbers)
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.bin").open("wb"))
                    facts[name] = _facts(array[:0], 0)
                assert array.dtype.str == facts[name]["dtype"], (name, array.dtype)
                data = np.ascontiguousarray(array).data
                files[name].write(data)
                facts[name]["length"] += len(data)
                facts[name]["crc32"] = zlib.crc32(data, facts[name]["crc32"])
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())  # or a crash may leave the name without the content
    noted = {"arrays": facts, "counts": counts, "crc32": _entry_sum(facts, counts)}
    (folder / "entry.json").write_text(json.dumps(noted, indent=2) + "\n")
    return _mapped(folder, facts), dict(counts)


def _mapped(folder, facts):
    arrays = {}
    for name, array in facts.items():
        arrays[name] = np.empty(0, array["dtype"])
        if array["length"]:  # an empty file cannot be mapped
            mapped = np.memmap(folder / f"{name}.bin", array["dtype"], mode="r")
            arrays[name] = np.asarray(mapped)  # slicing a np.memmap costs several times as much
    return arrays


def _facts(array, crc32):
    return {"dtype": array.dtype.str, "length": len(array), "crc32": crc32}


def _entry_sum(arrays, counts):
    return zlib.crc32(json.dumps([arrays, counts], sort_keys=True).encode())


def _publish(aside: Path, folder: Path) -> None:
    """Rename a complete entry to its key. A process that reads an older one keeps its arrays."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, aside.with_name("replaced"))
    try:
        os.rename(aside, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same rows
            raise


@functools.cache
def _warn_once(message):
    logger.warning(message)
