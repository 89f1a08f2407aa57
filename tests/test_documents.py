"""Documents for masked-LM training: kept as they are, empty ones counted."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import document_rows, jsonl, message, settings, write

from rawtrain.data.sources import read_documents

TEXTS = ["one  line ", "NA", "x\u2028y\u0085z", '"quoted", and more']


@pytest.mark.parametrize(
    "kind", ["txt", "dos.txt", "jsonl", "csv", "parquet", "large.parquet", "ndjson", "tsv"]
)
def test_documents_are_the_same_from_every_format_and_empty_ones_are_counted(tmp_path, kind):
    texts = [TEXTS[0], "", *TEXTS[1:], " \t"]
    path = tmp_path / f"a.{kind}"
    if kind.endswith("txt"):
        end = "\r\n" if kind == "dos.txt" else "\n"
        path.write_bytes(end.join(texts).encode())
    elif kind.endswith("json") or kind == "jsonl":
        path.write_text(document_rows(texts).replace('""', "null"))
    elif kind in ("csv", "tsv"):
        cells = ['"' + text.replace('"', '""') + '"' for text in texts]
        path.write_text("text\n" + "\n".join(cells), encoding="utf-8")
    else:
        strings = pa.string() if kind == "parquet" else pa.large_string()
        pq.write_table(pa.table({"text": pa.array([t or None for t in texts], strings)}), path)
    read = read_documents(settings(train_file=str(path)))["train"]
    assert (list(read.texts), read.left_out) == (TEXTS, {"empty documents": 2})


COLUMNS = {  # what is found, and the columns of a row
    "text": {"id": 1, "title": "A long title of it", "content": "c", "Text": "text"},
    "content": {"body": "b", "content": "content"},
    "document": {"sentence": 7, "document": "document"},
    "sentence": {"text": None, "sentence": "sentence"},
    "body": {"id": "doc-0", "body": "body"},
    "one of text": {"id": 0, "n": "12", "x": "one of text"},
    "acgt": {"id": 0, "sequence": "acgt"},
    "long text " * 20: {"title": "A longer title", "id": "doc-0", "article": "long text " * 20},
}


@pytest.mark.parametrize("text", COLUMNS)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_text_column_is_found_by_name_or_by_what_it_holds(tmp_path, text, kind):
    if kind == "jsonl":
        path = write(tmp_path, "a.jsonl", jsonl(COLUMNS[text]))
    else:
        cells = ["" if value is None else str(value) for value in COLUMNS[text].values()]
        path = write(tmp_path, "a.csv", f"{','.join(COLUMNS[text])}\n{','.join(cells)}\n")
    assert list(read_documents(settings(train_file=path))["train"].texts) == [text]


def test_a_column_that_is_named_is_taken_and_one_that_is_not_there_refused(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"body": "b", "text": "t"}))
    read = read_documents(settings(train_file=path, text_column_name="body"))["train"]
    assert list(read.texts) == ["b"]
    text = message(read_documents, train_file=path, text_column_name="x")
    assert "there is no column 'x'; the columns are 'body' (text), 'text' (text); choose" in text


def test_an_index_without_a_name_is_no_text(tmp_path):
    path = write(tmp_path, "a.csv", ",review,label\n0,good as it is,1\n1,bad as it was,0\n")
    read = read_documents(settings(train_file=path))["train"]
    assert list(read.texts) == ["good as it is", "bad as it was"]


def test_the_first_text_of_a_file_without_a_header_is_not_lost(tmp_path):
    rows = [f"{n}\tA text of several words is not the name of a column, {n}." for n in range(3)]
    text = message(read_documents, train_file=write(tmp_path, "a.tsv", "\n".join(rows)))
    assert "the columns are '0' (text), 'A text of several words is not the name" in text


@pytest.mark.parametrize(
    "row", ["0,Mon Apr 06 22:19:45 PDT 2009,@ada that is a bummer", "ham,Go until jurong point now"]
)
def test_a_short_column_is_not_taken_for_the_text_where_there_is_no_header(tmp_path, row):
    text = message(read_documents, train_file=write(tmp_path, "a.csv", f"{row}\n" * 9))
    assert text.endswith("choose with --text_column_name")


@pytest.mark.parametrize(
    "row", [{"text": ["a b", "c"], "id": "x1"}, {"sentences": ["a b c", "d e f"], "title": "T"}]
)
def test_a_name_is_not_read_in_place_of_a_text_in_a_list(tmp_path, row):
    text = message(read_documents, train_file=write(tmp_path, "a.jsonl", jsonl(row)))
    assert "is a list\nExpected: " in text and text.endswith("choose with --text_column_name.")


def test_a_text_that_is_null_for_many_rows_is_waited_for(tmp_path):
    rows = [{"text": None, "title": "T one"}] * 101 + [{"text": "a", "title": "T"}]
    read = read_documents(settings(train_file=write(tmp_path, "a.jsonl", jsonl(*rows))))["train"]
    assert (list(read.texts), read.left_out) == (["a"], {"empty documents": 101})


def test_an_encoding_that_utf_8_text_does_not_need_is_doubted(tmp_path, caplog):
    path = write(tmp_path, "a.txt", "Zürich, Köln und Düsseldorf, größer als Gießen\n" * 3)
    read_documents(settings(train_file=path, encoding="cp1252"))
    assert "a.txt: begins like UTF-8; is --encoding cp1252 right?" in caplog.text
    caplog.clear()
    read_documents(settings(train_file=path))
    assert not caplog.text


def test_columns_that_look_alike_are_refused_once_with_what_they_hold(tmp_path):
    rows = [{"id": 1, "question": "Who was it?", "answer": "It was I."}] * 30
    text = message(read_documents, train_file=write(tmp_path, "a.jsonl", jsonl(*rows)))
    assert text.endswith(
        "a.jsonl: no column is named 'text', 'content', 'sentence', 'document', 'body'; the "
        "columns are 'id' (a number), 'question' (text), 'answer' (text); choose with "
        "--text_column_name"
    )


def test_a_key_that_the_first_row_lacks_is_a_column(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"id": 1, "text": null}\n{"id": 2, "text": "a"}\n')
    assert list(read_documents(settings(train_file=path))["train"].texts) == ["a"]
    text = message(read_documents, train_file=write(tmp_path, "b.jsonl", '{}\n{"text": "a"}\n'))
    assert "b.jsonl:1: no key 'text'" in text


def test_nan_is_null_for_documents_and_nothing_in_a_column_that_is_not_used(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"n": NaN, "text": "a"}\n{"n": 0, "text": NaN}\n')
    read = read_documents(settings(train_file=path))["train"]
    assert (list(read.texts), read.left_out) == (["a"], {"empty documents": 1})


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('1\t"I came,\n2\tI saw."\n', ['"I came,', 'I saw."']),  # no cell over two lines
        ('1\t"I came," he said\n2\tb\n', ['"I came," he said', "b"]),
        ('1\ta "quote"\n2\t"a ""quote"""\n', ['a "quote"', 'a "quote"']),
        ('1\t"a\nb"\n2\tc\n', ["a\nb", "c"]),
    ],
)
def test_quotes_in_a_file_of_tabs_lose_no_row(tmp_path, content, texts):
    path = write(tmp_path, "a.tsv", "id\ttext\n" + content)
    assert list(read_documents(settings(train_file=path))["train"].texts) == texts


def test_a_long_csv_document_is_read_whole(tmp_path):
    path = write(tmp_path, "a.csv", f"text\n{'word ' * 40_000}\n")
    [text] = read_documents(settings(train_file=path))["train"].texts
    assert len(text) == 200_000
