"""Rows of JSON lines, CSV, Parquet and the hub. Read strictly: lenient readers lose rows."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from rawtrain.data.files import READ_ERRORS, iterate_lines, kind_of, open_data, read_text
from rawtrain.errors import listed, raise_problems

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
FORMATS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", *SEPARATORS)
SPAN = re.compile(r"""[\[(]\d+, \d+, ['"]|['"](?:start|begin)\w*['"]: \d""", re.IGNORECASE)
SPANS_FOUND = (
    "character spans; expected in each row a list of words and a list of tags, one for each word: "
    "make tags such as B-PER and I-PER of the spans"
)
LONGEST_JSON = 2**28  # bytes of a JSON array, which is held in memory as a whole
BATCH = 1000  # rows of an Arrow table that are Python objects at once

Numbered = Iterable[tuple[int, dict]]


@dataclass(frozen=True)
class Rows:
    """The rows of a source as dictionaries. They are read from it each time, and take no memory."""

    source: str
    columns: list[str]
    read: Callable[[list[str]], Numbered]  # the line or row of each, from 1, and these columns
    at: str = ":"  # as in TaggedSentences
    class_names: dict[str, list[str]] = field(default_factory=dict)  # of columns of class numbers

    def place(self, number: int) -> str:
        return f"{self.source}{self.at}{number}"


def read_rows(path: str, encoding: str = "utf-8") -> Rows:
    """The rows of a file, whose extension is one of `FORMATS`."""
    kind = kind_of(path)
    if kind in SEPARATORS:
        return _csv_rows(path, SEPARATORS[kind], encoding)
    if kind == ".parquet":
        with open_data(path) as file, _naming(path):
            schema = pq.read_schema(file)
        return _arrow_rows(path, schema, partial(_parquet_batches, path))
    if kind in (".arrow", ".feather"):
        with open_data(path) as file, _naming(path):
            is_file = file.read(6) == b"ARROW1"  # else a stream, as `datasets` writes it
            read = pa.ipc.open_file if is_file else pa.ipc.open_stream
            table = read(pa.memory_map(path)).read_all()  # which stays on the disk
        return _arrow_rows(path, table.schema, lambda names: table.select(names).to_batches(BATCH))
    if whole := _whole_json(path, encoding):
        return Rows(path, _keys(whole), lambda columns: whole, ", row ")
    read = partial(_jsonl_rows, path, encoding)
    return Rows(path, _keys(read()), lambda columns: read())


def hub_rows(dataset: datasets.Dataset, source: str) -> Rows:
    """The rows of a split of a data set of the hub."""
    tables = dataset.with_format("arrow")
    return _arrow_rows(
        source, tables[:0].schema, lambda columns: tables.select_columns(columns).iter(BATCH)
    )


def _keys(numbered: Numbered) -> list[str]:
    return list(dict.fromkeys(key for _, row in islice(numbered, BATCH) for key in row))


def _whole_json(path: str, encoding: str) -> Numbered:
    """The rows of `[{...}, ...]` or `{"data": [{...}, ...]}`; none if a row is a line."""
    if kind_of(path) != ".json" or Path(path).stat().st_size > LONGEST_JSON:
        return []
    try:
        content = _parsed(read_text(path, encoding, LONGEST_JSON))
    except (ValueError, RecursionError):
        return []  # it is read line by line, and problems have a line
    is_object = type(content) is dict
    if is_object:
        content = content.get("data") if len(content) > 1 else next(iter(content.values()), None)
    if type(content) is not list or not content or (is_object and type(content[0]) is not dict):
        return []
    rows = (row if type(row) is dict else {"row": row} for row in content)
    return list(enumerate(rows, start=1))


def _jsonl_rows(path: str, encoding: str) -> Iterator[tuple[int, dict]]:
    """The number and the object of each line. All problems are raised together at the end."""
    problems, num_rows = [], 0
    for number, line in enumerate(iterate_lines(path, encoding), start=1):
        if not line.strip(" \t"):
            continue
        if not (num_rows or problems) and (line.lstrip()[:1] == "[" or line.strip() == "{"):
            part = "'.[]'" if "[" in line else "."
            jq = f"jq -c {part} {path} > new.jsonl"
            advice = f"not one JSON object a line; convert it with `{jq}`"
            raise ValueError(f"{path}: {SPANS_FOUND if SPAN.search(line) else advice}")
        try:
            row = _parsed(line)
            if type(row) is not dict:
                raise ValueError(f"{line[:20]!r} is not a JSON object")
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON at column {error.colno}: {error.msg}")
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: {error}")
        else:
            num_rows += 1
            yield number, row
    raise_problems(problems, 'Expected one JSON object a line, such as {"text": "..."}.')
    if not num_rows:
        raise ValueError(f"{path}: no JSON object in this file; expected one a line")


def _parsed(text):
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} occurs twice")
    return row


def _csv_rows(path: str, separator: str, encoding: str) -> Rows:
    """The rows below a header, as text: `NA`, `007` and `1.0` stay what they are.

    Quotes mean nothing in many files of tabs. If all lines of such a file have as many tabs, each
    is a row, and a reading with quotes is believed only if it finds as many rows.
    """
    text, name = read_text(path, encoding), {",": "commas", "\t": "tabs"}[separator]
    plain = _records(path, text, separator, csv.QUOTE_NONE) if name == "tabs" else []
    is_plain = len({len(cells) for _, cells in plain}) == 1 < len(plain[0][1])
    try:
        records = _records(path, text, separator)
    except ValueError:
        if not is_plain:
            raise
        records = plain
    if is_plain and len(records) < len(plain):
        records = plain
    if len(records) < 2:
        raise ValueError(f"{path}: expected a header and rows below it, found {len(records)} rows")
    (_, header), *records = records
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}:1: the header has {quoted(repeated)} twice")
    if len(header) == 1 and any(other in header[0] for other in ",;\t|"):
        raise ValueError(f"{path}:1: one column, {header[0]!r}; cells must be separated by {name}")
    raise_problems(
        [
            f"{path}:{line}: number of cells: {len(cells)}, in the header {len(header)}"
            for line, cells in records
            if len(cells) != len(header)
        ],
        f"Cells are separated by {name}; a cell that holds any is written in quotes.",
    )
    rows = [(line, dict(zip(header, cells, strict=True))) for line, cells in records]
    return Rows(path, header, lambda columns: rows)


def _records(path, text, separator, quoting=csv.QUOTE_MINIMAL):
    """The cells of each row that is not empty, with the line on which it begins."""
    csv.field_size_limit(2**31 - 1)  # for the whole process; long documents exceed the default
    text = io.StringIO(text, newline="")
    reader = csv.reader(text, delimiter=separator, quoting=quoting, strict=True)
    records, line = [], 1
    try:
        for cells in reader:
            if cells:
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}:{line}: the row that begins here is not CSV: {error}; "
            'a cell with a quote is written in quotes, and the quote twice: """"'
        ) from None
    return records


def _arrow_rows(
    source: str, schema: pa.Schema, batches: Callable[[list[str]], Iterable[pa.RecordBatch]]
) -> Rows:
    def read(columns: list[str]) -> Numbered:
        number = 0
        with _naming(source):
            for batch in batches(columns):
                batch.validate(full=True)  # text that is not UTF-8 would fail without a name
                yield from enumerate(batch.to_pylist(), number + 1)
                number += len(batch)

    class_names = {}
    if b"huggingface" in (schema.metadata or {}):  # `datasets` keeps the names there
        for column, feature in datasets.Features.from_arrow_schema(schema).items():
            if isinstance(item := getattr(feature, "feature", None), datasets.ClassLabel):
                class_names[column] = item.names
    return Rows(source, schema.names, read, ", row ", class_names)


def _parquet_batches(path, columns):
    with open_data(path) as file:
        yield from pq.ParquetFile(file).iter_batches(BATCH, columns=columns)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Say in an error of Arrow what could not be read."""
    try:
        yield
    except (pa.ArrowException, *READ_ERRORS) as error:
        kind = kind_of(source).removeprefix(".") or "arrow"
        raise ValueError(f"{source}: cannot be read as {kind}: {error}") from None


def quoted(names: Iterable[str]) -> str:
    return listed(map(repr, names))
