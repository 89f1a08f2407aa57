"""What the readers share: a text file decoded or refused, a column chosen, problems collected."""

import difflib
from collections.abc import Sequence
from pathlib import Path

MAX_SHOWN = 20

# How files begin that are not the text they were taken for, and what to do about it.
NOT_TEXT = {
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK\x03\x04": "a zip file: unpack it first",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zXZ": "an xz file: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstandard file: unpack it first",
    b"PAR1": "a Parquet file: its name must end in .parquet",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
}


def raise_problems(problems: Sequence[str], advice: str = "") -> None:
    """Raise one ValueError that lists `problems`, 20 at most; return if there are none."""
    if not problems:
        return
    lines = list(problems[:MAX_SHOWN])
    if len(problems) > MAX_SHOWN:
        lines.append(f"and {len(problems) - MAX_SHOWN} more")
    raise ValueError("\n".join([*lines, advice] if advice else lines))


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without its byte order mark."""
    data = read_bytes(path)
    nul = data.find(b"\0")
    if nul >= 0:
        raise ValueError(_not_text(path, data, nul))
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(_not_text(path, data, error.start)) from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file. Only LF, CRLF and CR end a line: a word may hold U+2028."""
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file, unless it is no data at all: missing, empty, a pointer, a web page."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"; is {path.parent / near[0]} meant?" if near else ""
        raise ValueError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a directory; the name of a file was expected") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise ValueError(f"{path}: the file is empty")
    if data.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a git-LFS pointer, not the data itself; run `git lfs pull`")
    if data[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ValueError(f"{path}: an HTML page, not data; download the raw file")
    return data


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


def _not_text(path: str | Path, data: bytes, offset: int) -> str:
    line = data.count(b"\n", 0, offset) + 1
    found = f"{path}:{line}: byte 0x{data[offset]:02x} at offset {offset} is not UTF-8 text"
    for start, meaning in NOT_TEXT.items():
        if data.startswith(start):
            return f"{found}; the file begins like {meaning}"
    if data[offset] == 0:
        return f"{found}; this looks like a binary file"
    return f"{found}; convert the file, for instance with `iconv -f ISO-8859-1 -t UTF-8`"
