"""What the readers share: files opened and decoded, or refused; checksums."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Bytes. A line is held in memory as a whole, and encoding one that is a document takes about 150
# times its bytes: 2.4 GB for the longest.
LONGEST_LINE = 16 * 2**20

# How files begin that are not text, and what to do about it.
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
    with open_data(path) as file:
        return _decode(path, file.read())


def read_object(path: str | Path) -> dict[str, Any]:
    """The names and values in a JSON or TOML file."""
    kind = "TOML" if Path(path).suffix == ".toml" else "JSON"
    text = read_text(path)
    try:
        content = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except (ValueError, RecursionError) as mistake:  # both decoders name line and column
        raise ValueError(f"{path}: not readable as {kind}: {mistake}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; expected names and values")
    return content


def iterate_lines(path: str | Path) -> Iterator[str]:
    """The lines of a UTF-8 file, which need not fit into memory, without their line ends.

    Only LF, CRLF and CR end a line: a word may hold U+2028.
    """
    with open_data(path) as file:
        offset, num_lines, num_ends = 0, 0, 0
        while data := file.readline(LONGEST_LINE + 1):
            if len(data) > LONGEST_LINE:
                raise ValueError(
                    f"{path}:{num_lines + 1}: a line of more than {LONGEST_LINE:,} bytes; a line "
                    f"is a row or a document: break it up (plain text: `fold -s -w 10000`)"
                )
            text = _decode(path, data, offset, num_ends)
            lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
            yield from lines
            offset, num_lines, num_ends = offset + len(data), num_lines + len(lines), num_ends + 1


def open_data(path: str | Path) -> BinaryIO:
    """An opened file. Raises ValueError if it holds no data: missing, empty, a pointer, a page."""
    path = Path(path)
    try:
        file = path.open("rb")
        beginning = file.peek(200)[:200]
    except FileNotFoundError:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a directory; expected a file") from None
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


def sha256_of(content: bytes | str | Path) -> str:
    """The SHA-256, in hexadecimal digits, of bytes, of text in UTF-8, or of the file at a Path."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()


def _decode(path, data, offset=0, num_lines=0):
    """The text of a part of a file, which begins at `offset`, after `num_lines` lines."""
    wrong = data.find(b"\0")
    if wrong < 0:
        try:
            text = data.decode("utf-8")
            return text if offset else text.removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            wrong = error.start
    line = num_lines + data.count(b"\n", 0, wrong) + 1
    with Path(path).open("rb") as file:
        beginning = file.read(8)
    advice = "convert the file, for instance with `iconv -f ISO-8859-1 -t UTF-8`"
    if data[wrong] == 0:
        advice = "this looks like a binary file or UTF-16 text"
    for start, meaning in NOT_TEXT.items():
        if beginning.startswith(start):
            advice = f"the file begins like {meaning}"
    raise ValueError(
        f"{path}:{line}: byte 0x{data[wrong]:02x} at offset {offset + wrong} is not UTF-8 text; "
        f"{advice}"
    )
