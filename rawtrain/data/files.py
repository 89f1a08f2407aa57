"""What the readers share: files opened, unpacked and decoded, or refused; checksums."""

import bz2
import codecs
import difflib
import gzip
import hashlib
import io
import json
import logging
import lzma
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from rawtrain.data.encodings import plausible_encodings

logger = logging.getLogger(__name__)

READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

# Bytes. A line is held in memory as a whole, and encoding one that is a document takes about 150
# times its bytes: 2.4 GB for the longest.
LONGEST_LINE = 16 * 2**20

# How files begin that hold no data, and what to do about it.
NOT_DATA = {
    rb"\Z": "the file is empty",
    rb"version https://git-lfs": "a git-LFS pointer, not the data itself; run `git lfs pull`",
    rb"(?is)(\xef\xbb\xbf|\s|<!--.*?-->)*<(!doctype html|html|head|body)\b": (
        "an HTML page, not data; download the raw file, or extract the text of the page"
    ),
    rb"PK\x03\x04": "a zip file, as .xlsx and .docx are: unpack it, or save it as .csv or .txt",
    rb"\xd0\xcf\x11\xe0": "a file of an old Office program: save it as .csv or .txt",
    rb"{\\rtf": "an RTF file: save it as .txt",
    rb"%PDF": "a PDF file: extract its text first",
    rb"7z\xbc\xaf|Rar!": "an archive: unpack it first",
}
TABLES = {  # if their names say nothing else
    rb"PAR1": "a Parquet file: its name must end in .parquet",
    rb"ARROW1": "an Arrow file: its name must end in .arrow",
}


def _open_zstandard(path):
    import pyarrow  # not for --help, which it would delay

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


# How compressed files begin, whatever their names, and what opens them.
COMPRESSED: dict[bytes, Any] = {
    rb"\x1f\x8b": gzip.open,
    rb"BZh[1-9]1AY&SY": bz2.open,
    rb"\xfd7zXZ\x00": lzma.open,
    rb"\x28\xb5\x2f\xfd": _open_zstandard,
}


def kind_of(path: str | Path) -> str:
    """The extension of a data file in lower case, without that of its compression.

    >>> kind_of("docs.JSONL.gz"), kind_of("words.conll"), kind_of("words")
    ('.jsonl', '.conll', '')
    """
    return Path(re.sub(r"\.(gz|bz2|xz|zst)$", "", str(path).lower())).suffix


def read_text(path: str | Path, encoding: str = "utf-8", longest: int = LONGEST_LINE) -> str:
    """The text of a file, without its byte order mark."""
    with open_data(path) as file:
        return "".join(_decoded(file, path, encoding, longest))


def read_object(path: str | Path) -> dict[str, Any]:
    """The names and values in a JSON or TOML file."""
    kind = "TOML" if Path(path).suffix == ".toml" else "JSON"
    file = open_data(path)
    try:
        with file:
            text = file.read().decode("utf-8-sig")
        content = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except (ValueError, RecursionError, *READ_ERRORS) as mistake:
        raise ValueError(f"{path}: not readable as {kind}: {mistake}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; expected names and values")
    return content


def iterate_lines(
    path: str | Path, encoding: str = "utf-8", left_out: Counter[str] | None = None
) -> Iterator[str]:
    """The lines of a file, which need not fit into memory, without their line ends.

    Only LF, CRLF and CR end a line: a word may hold U+2028. Files joined by `cat` have byte order
    marks before other lines than the first; these are counted in `left_out`.
    """
    left_out = Counter() if left_out is None else left_out
    with open_data(path) as file:
        for line in lines_of(file, path, encoding):
            if line[:1] == "\ufeff" and line[1:2] not in (" ", "\t"):  # else it is a word
                line = line[1:]
                left_out["byte order marks"] += 1
            yield line


def lines_of(file: BinaryIO, name: str | Path, encoding: str = "utf-8") -> Iterator[str]:
    """The same of an open file, which messages call `name`."""
    rest = ""
    for text in _decoded(file, name, encoding, LONGEST_LINE):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield from line.removesuffix("\r").split("\r")
    if rest:
        yield from rest.removesuffix("\r").split("\r")


def open_data(path: str | Path) -> BinaryIO:
    """An opened file, unpacked. Raises ValueError if it holds no data: empty, a pointer, a page."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: a pipe or a device; expected a file, which is read repeatedly")
    try:
        file = path.open("rb")
        for magic, unpack in COMPRESSED.items():
            if re.match(magic, file.peek(16)):
                file.close()
                file = unpack(path)
                break
        beginning = file.peek(200)[:200]
    except FileNotFoundError:
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a directory; expected a file") from None
    except READ_ERRORS as error:
        raise _unreadable(path, error) from None
    is_table = kind_of(path) in (".parquet", ".arrow", ".feather")
    for start, problem in (NOT_DATA if is_table else NOT_DATA | TABLES).items():
        if re.match(start, beginning):
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


def _decoded(file, name, encoding, longest):
    """The text of an open file, in pieces of a line or less, without its byte order mark."""
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"  # which removes the mark
    try:
        "".encode(encoding)  # refuses codecs that make no text, such as hex
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise ValueError(f"--encoding {encoding}: not known; for instance utf-8, gb18030") from None
    if "utf" not in encoding.lower() and hasattr(file, "peek"):
        with suppress(UnicodeDecodeError):
            seen = codecs.getincrementaldecoder("utf-8")().decode(file.peek(2**13))
            if sum(map(str.isascii, seen)) < len(seen) - 5:
                logger.warning(f"{name}: begins like UTF-8; is --encoding {encoding} right?")
    line, offset, data = 1, 0, b"not yet read"
    while data:
        try:
            data = file.readline(longest + 1)
        except READ_ERRORS as error:
            raise _unreadable(name, error) from None
        if len(data) > longest:
            raise ValueError(
                f"{name}:{line}: a line of more than {longest:,} bytes; a line is a row or a "
                f"document: break it up (plain text: `fold -s -w 10000`)"
            )
        try:
            text = decoder.decode(data, final=not data)
            if "\0" in text:
                raise UnicodeDecodeError(encoding, data, data.find(b"\0"), len(data), "")
        except UnicodeDecodeError as error:
            wrong = offset + len(data) - len(error.object) + error.start
            found = f"{name}:{line}: byte 0x{error.object[error.start]:02x} at offset {wrong}"
            said = f"{found} is not {encoding.upper().removesuffix('-SIG')} text"
            advice = _advice(file, data or error.object, offset, encoding)
            raise ValueError(f"{said}; {advice}") from None
        except UnicodeError as error:
            raise ValueError(f"{name}: {error}; choose another --encoding") from None
        yield text
        line, offset = line + text.count("\n"), offset + len(data)


def _advice(file, line, offset, encoding):
    """What to do about a file whose line at `offset` cannot be decoded."""
    beginning, lines = line, []
    if file.seekable():
        file.seek(0)
        beginning = file.read(8)
        start = file.seek(max(0, offset - 2**16))
        lines = file.read(2**17).split(b"\n")[start > 0 : -1]  # whole ones
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) and "16" not in encoding:
        return "the file begins like UTF-16 text: read it with --encoding utf-16"
    if b"\0" in line:
        return "this looks like a binary file or UTF-16 text (--encoding utf-16-le or utf-16-be)"
    if re.search(rb"\xed[\xa0-\xbf][\x80-\xbf]", line):
        return "half of a surrogate pair, as CESU-8 has (Java, Oracle); write the file as UTF-8"
    lines = [part for part in {*lines, line.rstrip(b"\n")} if not part.isascii()]
    if 2 * sum("\ufffd" not in part.decode("utf-8", "replace") for part in lines) >= len(lines):
        mend = "correct this one" if encoding == "utf-8-sig" else "leave out --encoding"
        return f"most lines around it are UTF-8: {mend}"
    if not (names := plausible_encodings(b"\n".join(lines))):
        return "its encoding is not known: name it with --encoding"
    readings = []
    for name in names:
        shown = re.search(r".{0,20}[^\x00-\x7f].{0,30}", line.decode(name, "replace"))
        readings.append(f"--encoding {name} reads {shown[0].strip()!r}")
    return ", ".join(readings)


def _unreadable(path, error):
    reason = getattr(error, "strerror", None) or f"damaged or cut short: {error}"
    return ValueError(f"{path}: cannot be read: {reason}")
