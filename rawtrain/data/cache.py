"""Encoded data on disk: written once, then read back memory-mapped.

    <cache>/<key>/input_ids.npy ...   an array each
    <cache>/<key>/entry.json          their types, lengths and check sums, and some counts

The key is a hash of everything that the content follows from, so an entry is never out of date. It
is written aside and gets its name when it is complete, and it is verified before it is used.
"""

import contextlib
import functools
import hashlib
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

import datasets
import numpy as np
import tokenizers

logger = logging.getLogger(__name__)


FORMAT = 1  # to be raised with every change of what is written for the same data and settings

SECONDS_A_DAY = 24 * 60 * 60

Arrays = dict[str, np.ndarray]
Counts = dict[str, int]
Chunks = Iterable[tuple[Arrays, Counts]]


@dataclass(frozen=True)
class Cache:
    """A folder of entries; `overwrite`: make them anew."""

    folder: Path
    overwrite: bool = False

    def fetch(self, key: str | None, chunks: Callable[[], Chunks]) -> tuple[Arrays, Counts]:
        """The arrays and counts under `key`, those of all `chunks()` if there are none.

        Arrays of the same name are put one after the other, counts are added up. The arrays are
        read-only and stay on the disk; memory holds what was looked at last. Without a key, or
        where the folder cannot be written, they are in files that vanish with the process.
        """
        if key is None:
            return _nameless(chunks())
        found = None if self.overwrite else _read(self.folder / key)
        if found:
            logger.info(f"encoded rows come from the cache: {self.folder / key}")
            return found
        return self._written(key, chunks()) or _nameless(chunks())

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
                f"this run goes on without, and the next one encodes again"
            )
        return entry


def cache_of(settings) -> Cache:
    """The cache of the jobs, beside that of `datasets`: HF_HOME and HF_DATASETS_CACHE move it."""
    return Cache(Path(datasets.config.HF_DATASETS_CACHE) / "rawtrain", settings.overwrite_cache)


def key_of(backend: tokenizers.Tokenizer, **facts) -> str | None:
    """The key of what `backend`, as it is set now, makes of the data that `facts` are about.

    None for a tokenizer with a part written in Python (RoFormer's), which has no serial form.
    """
    try:
        tokenizer = backend.to_str()
    except Exception as error:  # the backend raises no kind of its own
        _warn_once(f"encoded rows are not cached: {error}")
        return None
    facts |= {
        "format": FORMAT,
        "tokenizers": tokenizers.__version__,
        "tokenizer": hash_of(tokenizer),
        "encode_special_tokens": backend.encode_special_tokens,  # not part of the serial form
    }
    return hash_of(json.dumps(facts, sort_keys=True))


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_memory(chunks: Chunks) -> tuple[Arrays, Counts]:
    """What `Cache.fetch` returns, without any disk."""
    parts, counts = {}, Counter()
    for arrays, numbers in chunks:
        counts.update(numbers)
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, dict(counts)


def _sweep(folder: Path) -> None:
    """Remove what processes left half written that were killed, more than a day ago."""
    for left in folder.glob(".writing-*"):
        if time.time() - left.stat().st_mtime > SECONDS_A_DAY:
            shutil.rmtree(left, ignore_errors=True)


def _read(folder: Path) -> tuple[Arrays, Counts] | None:
    """The entry in `folder`, verified to the last byte; None if there is none to be trusted."""
    if not folder.exists():
        return None
    with contextlib.suppress(Exception):  # whatever json and numpy raise for damaged files
        noted = json.loads((folder / "entry.json").read_bytes())
        arrays, counts = noted["arrays"], noted["counts"]
        loaded = _mapped(folder, arrays)
        found = {name: _facts(array, zlib.crc32(array)) for name, array in loaded.items()}
        if found == arrays and noted["crc32"] == _entry_sum(arrays, counts):
            return loaded, counts
    logger.warning(f"{folder} is damaged; the data is encoded again")
    return None


def _nameless(chunks: Chunks) -> tuple[Arrays, Counts]:
    """An entry whose files are deleted at once: what is mapped stays until it is let go of."""
    with tempfile.TemporaryDirectory(prefix="rawtrain-", ignore_cleanup_errors=True) as folder:
        return _write(Path(folder) / "entry", chunks)


def _write(folder: Path, chunks: Chunks) -> tuple[Arrays, Counts]:
    """Write an entry, and return it as it is read back."""
    folder.mkdir()
    files, counts = {}, Counter()
    with contextlib.ExitStack() as stack:
        for arrays, numbers in chunks:
            counts.update(numbers)
            for name, array in arrays.items():
                if name not in files:
                    file = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    files[name] = _ArrayFile(file, array.dtype)
                files[name].append(array)
        facts = {name: file.finish() for name, file in files.items()}
    noted = {"arrays": facts, "counts": counts, "crc32": _entry_sum(facts, counts)}
    (folder / "entry.json").write_text(json.dumps(noted, indent=2) + "\n")
    return _mapped(folder, facts), dict(counts)


class _ArrayFile:
    """A .npy file that grows."""

    def __init__(self, file, dtype):
        self.file, self.dtype, self.length, self.crc32 = file, dtype, 0, 0
        self._write_header()

    def append(self, array):
        assert array.dtype == self.dtype, (array.dtype, self.dtype)
        data = np.ascontiguousarray(array)
        self.file.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.length += len(array)

    def finish(self):
        """Write the length, wait for the disk, and return the facts of the array."""
        end_of_header = self.header_bytes
        self.file.seek(0)
        self._write_header()
        assert self.header_bytes == end_of_header  # numpy leaves room for any length
        self.file.flush()
        os.fsync(self.file.fileno())  # or after a crash the name may be there before the content
        return {"dtype": self.dtype.str, "length": self.length, "crc32": self.crc32}

    def _write_header(self):
        shape = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, shape)
        self.header_bytes = self.file.tell()


def _mapped(folder, names):
    # asarray: a plain array over the mapping; slicing a np.memmap costs several times as much
    return {n: np.asarray(np.load(folder / f"{n}.npy", mmap_mode="r")) for n in names}


def _facts(array, crc32):
    return {"dtype": array.dtype.str, "length": len(array), "crc32": crc32}


def _entry_sum(arrays, counts):
    return zlib.crc32(json.dumps([arrays, counts], sort_keys=True).encode())


def _publish(aside: Path, folder: Path) -> None:
    """Give a complete entry its name. Whoever reads an older one of that name keeps what he has."""
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
