"""Rows of JSON lines, CSV, Parquet and the hub. Read strictly: lenient readers lose rows."""

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from rawtrain.config import DataSettings
from rawtrain.data.files import READ_ERRORS, iterate_lines, kind_of, open_data, read_text
from rawtrain.errors import raise_problems

logger = logging.getLogger(__name__)

FORMATS = (".json", ".jsonl", ".csv", ".parquet")
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

    def choose(self, settings: DataSettings, usual: Mapping[str, Sequence[str]]) -> list[str]:
        """For each setting in `usual`, the column that it names, or the first of its usual names.

        The case of usual names does not matter. What is read and what is not is logged, so that a
        missing header is noticed.
        """
        chosen = []
        by_name = {column.casefold(): column for column in reversed(self.columns)}
        for setting, names in usual.items():
            asked = getattr(settings, setting)
            found = [by_name[name.casefold()] for name in names if name.casefold() in by_name]
            if asked in self.columns or (asked is None and found):
                chosen.append(asked or found[0])
                continue
            problem = f"there is no column {asked!r}"
            if asked is None:
                problem = f"no column is named {_quoted(names)}"
            raise ValueError(
                f"{self.source}: {problem}; the columns are {_quoted(self.columns)}; choose one "
                f"with --{setting}"
            )
        unused = [column for column in self.columns if column not in chosen]
        left = f"; not used: {_quoted(unused)}" if unused else ""
        logger.info(f"{self.source}: columns read: {_quoted(chosen)}{left}")
        return chosen


def read_rows(path: str, encoding: str = "utf-8") -> Rows:
    """The rows of a file, whose extension is one of `FORMATS`."""
    kind = kind_of(path)
    if kind == ".csv":
        return _csv_rows(path, encoding)
    if kind == ".parquet":
        with _parquet_file(path) as file:
            schema = file.schema_arrow
        return _arrow_rows(path, schema, partial(_parquet_batches, path))
    _, first = next(_jsonl_rows(path, encoding))
    return Rows(path, list(first), lambda columns: _jsonl_rows(path, encoding))


def hub_rows(dataset: datasets.Dataset, source: str) -> Rows:
    """The rows of a split of a data set of the hub."""
    tables = dataset.with_format("arrow")
    return _arrow_rows(
        source, tables[:0].schema, lambda columns: tables.select_columns(columns).iter(BATCH)
    )


def _jsonl_rows(path: str, encoding: str) -> Iterator[tuple[int, dict]]:
    """The number and the object of each line. All problems are raised together at the end."""
    problems, num_rows = [], 0
    for number, line in enumerate(iterate_lines(path, encoding), start=1):
        if not line.strip(" \t"):
            continue
        if not (num_rows or problems) and line.lstrip().startswith("["):
            raise ValueError(
                f"{path}: a JSON array, not one object a line; convert it with "
                f"`jq -c '.[]' {path} > rows.jsonl`"
            )
        try:
            row = json.loads(
                line, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
            )
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


def _without_duplicates(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} occurs twice")
    return row


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def _csv_rows(path: str, encoding: str) -> Rows:
    """The rows below a header, as text: `NA`, `007` and `1.0` stay what they are."""
    csv.field_size_limit(2**31 - 1)  # for the whole process; long documents exceed the default
    reader = csv.reader(io.StringIO(read_text(path, encoding), newline=""), strict=True)
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
    if len(records) < 2:
        raise ValueError(f"{path}: expected a header and rows below it, found {len(records)} rows")
    (_, header), *records = records
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}:1: the header has {_quoted(repeated)} twice")
    if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
        raise ValueError(f"{path}:1: one column, {header[0]!r}; cells must be separated by commas")
    raise_problems(
        [
            f"{path}:{line}: number of cells: {len(cells)}, in the header {len(header)}"
            for line, cells in records
            if len(cells) != len(header)
        ],
        "Cells are separated by commas; a cell that holds a comma is written in quotes.",
    )
    rows = [(line, dict(zip(header, cells, strict=True))) for line, cells in records]
    return Rows(path, header, lambda columns: rows)


def _arrow_rows(
    source: str, schema: pa.Schema, batches: Callable[[list[str]], Iterable[pa.RecordBatch]]
) -> Rows:
    def read(columns: list[str]) -> Numbered:
        return enumerate((row for batch in batches(columns) for row in batch.to_pylist()), start=1)

    class_names = {}
    if b"huggingface" in (schema.metadata or {}):  # `datasets` keeps the names there
        for column, feature in datasets.Features.from_arrow_schema(schema).items():
            if isinstance(item := getattr(feature, "feature", None), datasets.ClassLabel):
                class_names[column] = item.names
    return Rows(source, schema.names, read, ", row ", class_names)


def _parquet_batches(path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with _parquet_file(path) as file:
        for batch in file.iter_batches(BATCH, columns=columns):
            batch.validate(full=True)  # text that is not UTF-8 would fail later, without a name
            yield batch


@contextmanager
def _parquet_file(path: str) -> Iterator[pq.ParquetFile]:
    with open_data(path) as file:
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowException, *READ_ERRORS) as error:
            raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
