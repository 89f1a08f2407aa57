"""CSV, where a row is a word or a document; Arrow tables, where a row is a sentence or a document.

Arrow tables come from Parquet files and from the hub.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data.files import choose_columns, open_data, read_text
from rawtrain.data.rows import (
    Documents,
    Rows,
    documents_from,
    sentence_columns,
    sentences_from,
    text_column,
)
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

BATCH = 1000  # documents read at once
LIST_TYPES = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view())


def read_csv_rows(path: str | Path) -> Rows:
    """The rows of a CSV file with a header, as text: `NA`, `007` and `1.0` stay what they are."""
    csv.field_size_limit(2**31 - 1)  # for the whole process; long documents exceed the default
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
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
    _check_header(path, header)
    raise_problems(
        [
            f"{path}:{line}: number of cells: {len(cells)}, in the header {len(header)}"
            for line, cells in records
            if len(cells) != len(header)
        ],
        "Cells are separated by commas; a cell that holds a comma is written in quotes.",
    )
    rows = [dict(zip(header, cells, strict=True)) for _, cells in records]
    return Rows(rows, [line for line, _ in records], str(path), header)


def sentences_from_words(table: Rows, settings: NerDataSettings) -> TaggedSentences:
    """Sentences from rows of one word each. An empty sentence id repeats the one above it."""
    task = settings.task_name
    usual = {
        "sentence_column_name": ("sentence_id", "sentence", "sent_id", "sentence #"),
        "text_column_name": ("word", "token", "words", "tokens", "text", "form"),
        "label_column_name": f"{task}_tags {task}_tag {task} tag tags label labels".split(),
    }
    sentence, word, tag = choose_columns(table.columns, settings, table.source, usual)
    words, tags, lines, problems = [], [], [], []
    seen, current = set(), None
    for n, row in enumerate(table.rows):
        if row[sentence] not in ("", current):
            current = row[sentence]
            if current in seen:
                problems.append(f"{table.place(n)}: the sentence {current!r} comes back")
            seen.add(current)
            words.append([])
            tags.append([])
            lines.append([])
        elif current is None:
            raise ValueError(f"{table.place(n)}: the first row has no sentence id in {sentence!r}")
        words[-1].append(row[word])
        tags[-1].append(row[tag])
        lines[-1].append(table.numbers[n])
    raise_problems(problems, f"The rows of a sentence (column {sentence!r}) must stand together.")
    return TaggedSentences(words, tags, lines, table.source)


def read_parquet(path: str | Path) -> pa.Table:
    """The table in a Parquet file."""
    with _parquet_file(path) as file:
        table = file.read()
        table.validate(full=True)  # text that is not UTF-8 would fail later, without a file name
    return table


def documents_from_parquet(path: str | Path, settings: DataSettings) -> Documents:
    """A document from each row of a Parquet file."""
    with _parquet_file(path) as file:
        schema = file.schema_arrow

    def batches(column: str) -> Iterator[pa.RecordBatch]:
        with _parquet_file(path) as file:
            for batch in file.iter_batches(BATCH, columns=[column]):
                batch.validate(full=True)
                yield batch

    return documents_from_batches(schema, batches, str(path), settings)


def sentences_from_table(
    table: pa.Table, source: str, settings: NerDataSettings
) -> TaggedSentences:
    """A sentence from each row, its tags given as names or as numbers of the table's ClassLabel."""
    text, label = sentence_columns(table.column_names, settings, source)
    words_type, tags_type = (_item_type(table.schema.field(c).type) for c in (text, label))
    problems = []
    if not _is_text(words_type):
        problems.append(f"{source}: {text!r} is {table.schema.field(text).type}, not lists of text")
    if not (_is_text(tags_type) or pa.types.is_integer(tags_type)):
        problems.append(
            f"{source}: {label!r} is {table.schema.field(label).type}, not lists of tags"
        )
    raise_problems(problems, "Choose the columns with --text_column_name and --label_column_name.")
    return sentences_from(_rows(table, source, text, label), text, label, _names(table, label))


def documents_from_batches(
    schema: pa.Schema,
    batches: Callable[[str], Iterable[pa.RecordBatch | pa.Table]],
    source: str,
    settings: DataSettings,
) -> Documents:
    """A document from each row of the `batches(column)`, of which only some are in memory."""
    column = text_column(schema.names, settings, source)
    found = schema.field(column).type
    if not _is_text(found):
        raise ValueError(
            f"{source}: {column!r} is {found}, not text; choose a column with --text_column_name"
        )

    def texts() -> Iterator[str]:
        for batch in batches(column):
            yield from (text or "" for text in batch.column(column).to_pylist())

    return documents_from(texts, source)


@contextmanager
def _parquet_file(path: str | Path) -> Iterator[pq.ParquetFile]:
    with open_data(path) as file:
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None


def _check_header(path, header: list[str]) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}:1: the header has {', '.join(map(repr, repeated))} twice")
    if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
        raise ValueError(f"{path}:1: one column, {header[0]!r}; cells must be separated by commas")


def _rows(table: pa.Table, source: str, *columns: str) -> Rows:
    rows = table.select(columns).to_pylist()
    return Rows(rows, range(1, len(rows) + 1), source, table.column_names, at=", row ")


def _names(table: pa.Table, label: str) -> list[str] | None:
    """The names behind the numbers of a column, which `datasets` keeps in the schema's metadata."""
    if b"huggingface" not in (table.schema.metadata or {}):
        return None
    feature = getattr(Features.from_arrow_schema(table.schema)[label], "feature", None)
    return feature.names if isinstance(feature, ClassLabel) else None


def _item_type(found: pa.DataType) -> pa.DataType:
    return found.value_type if isinstance(found, LIST_TYPES) else pa.null()


def _is_text(found: pa.DataType) -> bool:
    return (found.value_type if isinstance(found, pa.DictionaryType) else found) in TEXT_TYPES
