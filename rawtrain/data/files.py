"""What the readers share: a text file decoded or refused, a column chosen, problems collected."""

import difflib
import functools
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)


BLOCK_BYTES = 2**20  # read at once
# A line is held in memory as a whole. To encode one that is a document takes about 150 times its
# bytes: 2.4 GB for the longest.
LONGEST_LINE = 16 * 2**20

# How files begin that are not the text they were taken for, and what to do about it.
NOT_TEXT = {
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK\x03\x04": "a zip file: unpack it first",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstandard file: unpack it first",
    b"PAR1": "a Parquet file: its name must end in .parquet",
    b"%PDF": "a PDF file: extract its text first",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
}


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without its byte order mark."""
    return _decode(path, read_bytes(path), 0)


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file. Only LF, CRLF and CR end a line: a word may hold U+2028."""
    return list(iterate_lines(path))


def iterate_lines(path: str | Path) -> Iterator[str]:
    """The same lines one by one, of a file that need not fit into memory."""
    with open_data(path) as file:
        offset, begun = 0, []  # where the blocks of `begun` stand, which hold no whole line yet
        num_lines = 0
        while block := file.read(BLOCK_BYTES):
            # a CR at the very end may be half of a CRLF
            end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1)) + 1
            begun.append(block[:end] if end else block)
            if end:
                whole = b"".join(begun)
                lines = _lines(_decode(path, whole, offset))
                yield from lines
                offset, begun = offset + len(whole), [block[end:]]
                num_lines += len(lines)
            elif sum(map(len, begun)) > LONGEST_LINE:
                raise ValueError(
                    f"{path}:{num_lines + 1}: a line of more than {LONGEST_LINE:,} bytes; a line "
                    f"is a row or a document: break it up (plain text: `fold -s -w 10000`)"
                )
        if last := b"".join(begun):
            yield from _lines(_decode(path, last, offset))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file."""
    with open_data(path) as file:
        return file.read()


def open_data(path: str | Path) -> BinaryIO:
    """A file, unless it is no data at all: missing, empty, a pointer, a web page."""
    path = Path(path)
    try:
        file = path.open("rb")
        beginning = file.peek(200)[:200]
    except FileNotFoundError:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"; is {path.parent / near[0]} meant?" if near else ""
        raise ValueError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a directory; the name of a file was expected") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    problem = None
    if not beginning:
        problem = "the file is empty"
    elif beginning.startswith(b"version https://git-lfs"):
        problem = "a git-LFS pointer, not the data itself; run `git lfs pull`"
    elif beginning.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        problem = "an HTML page, not data; download the raw file"
    if problem:
        file.close()
        raise ValueError(f"{path}: {problem}")
    return file


def pick_column(
    columns: Sequence[str], asked: str | None, usual: Sequence[str], flag: str, source: str
) -> str:
    """The column `asked` for; without one the first of the `usual` names there is, in any case."""
    if asked is None:
        by_name = {column.casefold(): column for column in reversed(columns)}
        found = [by_name[name.casefold()] for name in usual if name.casefold() in by_name]
        if found:
            return found[0]
        wanted = "no column is named " + ", ".join(map(repr, usual))
    elif asked in columns:
        return asked
    else:
        wanted = f"there is no column {asked!r}"
    there = ", ".join(map(repr, columns))
    raise ValueError(f"{source}: {wanted}; the columns are {there}; choose one with {flag}")


def sha256_of(content: bytes | Path) -> str:
    """The SHA-256 of bytes, or of the bytes of a file, in hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache  # documents are read several times
def say_columns(source: str, columns: tuple[str, ...], used: tuple[str, ...]) -> None:
    """Say once what is read of a source and what is not; a missing header is seen here too."""
    unused = [repr(column) for column in columns if column not in used]
    left = f"; not used: {', '.join(unused)}" if unused else ""
    logger.info(f"{source}: columns read: {', '.join(map(repr, used))}{left}")


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _decode(path: str | Path, data: bytes, offset: int) -> str:
    """The text of a part of a file that stands at `offset`."""
    wrong = data.find(b"\0")
    if wrong < 0:
        try:
            text = data.decode("utf-8")
            return text if offset else text.removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            wrong = error.start
    raise ValueError(_not_text(path, offset + wrong))


def _not_text(path: str | Path, offset: int) -> str:
    """What is said of a file whose byte at `offset` is no text."""
    line, left = 1, offset
    with Path(path).open("rb") as file:
        beginning = file.peek(4)
        while left:
            block = file.read(min(left, BLOCK_BYTES))
            line, left = line + block.count(b"\n"), left - len(block)
        byte = file.read(1)[0]
    found = f"{path}:{line}: byte 0x{byte:02x} at offset {offset} is not UTF-8 text"
    for start, meaning in NOT_TEXT.items():
        if beginning.startswith(start):
            return f"{found}; the file begins like {meaning}"
    if byte == 0:
        return f"{found}; this looks like a binary file or UTF-16 text"
    return f"{found}; convert the file, for instance with `iconv -f ISO-8859-1 -t UTF-8`"
