"""Documents for masked-LM training: kept as they are, empty ones counted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import document_rows, jsonl, message, settings, write

from rawtrain.data.sources import read_documents

TEXTS = ["one  line ", "NA", "x\u2028y\u0085z", '"quoted", and more']


@pytest.mark.parametrize("kind", ["txt", "dos.txt", "jsonl", "csv", "parquet", "large.parquet"])
def test_documents_are_the_same_from_every_format_and_empty_ones_are_counted(tmp_path, kind):
    texts = [TEXTS[0], "", *TEXTS[1:], " \t"]
    path = tmp_path / f"a.{kind}"
    if kind.endswith("txt"):
        end = "\r\n" if kind == "dos.txt" else "\n"
        path.write_bytes(end.join(texts).encode())
    elif kind == "jsonl":
        path.write_text(document_rows(texts).replace('""', "null"))
    elif kind == "csv":
        cells = ['"' + text.replace('"', '""') + '"' for text in texts]
        path.write_text("text\n" + "\n".join(cells), encoding="utf-8")
    else:
        strings = pa.string() if kind == "parquet" else pa.large_string()
        pq.write_table(pa.table({"text": pa.array([t or None for t in texts], strings)}), path)
    read = read_documents(settings(train_file=str(path)))["train"]
    assert (list(read.texts), read.left_out) == (TEXTS, {"empty documents": 2})


def test_the_text_column_is_named_or_text_or_the_first(tmp_path):
    both = write(tmp_path, "a.jsonl", jsonl({"body": "b", "text": "t"}))
    first = write(tmp_path, "b.jsonl", jsonl({"body": "b", "title": "t"}))

    def read(path, **given):
        return list(read_documents(settings(train_file=path, **given))["train"].texts)

    assert (read(both), read(first)) == (["t"], ["b"])
    assert read(both, text_column_name="body") == ["b"]
    assert "'body', 'text'" in message(read_documents, train_file=both, text_column_name="x")


def test_a_long_csv_document_is_read_whole(tmp_path):
    path = write(tmp_path, "a.csv", f"text\n{'word ' * 40_000}\n")
    [text] = read_documents(settings(train_file=path))["train"].texts
    assert len(text) == 200_000
