"""Documents that are read anew each time: the same as a list of them, in memory that stays flat."""

import bz2
import gzip
import lzma
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import settings as cases
from hypothesis import strategies as st
from source_files import document_rows, message, refusal, settings, write

from rawtrain.data import tables
from rawtrain.data.files import LONGEST_LINE, iterate_lines, read_text
from rawtrain.data.rows import documents_from
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.data.text import split_documents

many_cases = cases(max_examples=300)


def documents(*texts):
    return documents_from(lambda: texts, "a list").texts


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("text") / "a.txt"


@many_cases
@given(st.text("ab\n\r\u2028\ufeffä€😀 ", min_size=1, max_size=40), st.booleans())
def test_lines_are_read_one_by_one_as_from_the_whole_text(path, text, has_mark):
    text = "\ufeff" * has_mark + text
    path.write_bytes(text.encode())
    text = text.removeprefix("\ufeff")
    lines = re.sub("\r\n?", "\n", text).removesuffix("\n").split("\n") if text else []
    marked = [line[:1] == "\ufeff" and line[1:2] != " " for line in lines]  # a file was joined on
    left_out = Counter()
    expected = [line[mark:] for line, mark in zip(lines, marked, strict=True)]
    assert list(iterate_lines(path, left_out=left_out)) == expected
    assert left_out == ({"byte order marks": sum(marked)} if any(marked) else {})


@many_cases
@given(
    st.text("abĊ\n\rä日😀 ", min_size=1, max_size=40),
    st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "utf_8"]),
)
def test_lines_are_the_same_in_every_encoding(path, text, encoding):
    path.write_bytes(text.encode(encoding))
    expected = re.sub("\r\n?", "\n", text).removesuffix("\n").split("\n")
    assert list(iterate_lines(path, encoding)) == expected
    assert read_text(path, encoding) == text


def zstandard(data):
    return pa.compress(data, codec="zstd", asbytes=True)


COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_compressed_file_is_read_as_what_it_holds(tmp_path, name, kind):
    texts = ["a b", "ä", "c"]
    content = document_rows(texts) if name == "a.jsonl" else "text\n" * (name == "a.csv")
    content = content if name == "a.jsonl" else content + "\n".join(texts)
    compressed = COMPRESS[kind](content.encode())
    for there in (f"{name}.{kind}", f"{name}.{kind.upper()}", name):
        path = write(tmp_path, there, compressed)
        assert list(read_documents(settings(train_file=path))["train"].texts) == texts
    file = write(tmp_path, f"a.conll.{kind}", COMPRESS[kind](b"Ada B-PER\nran O\n"))
    assert read_tagged(settings(train_file=file)).splits["train"].words == [["Ada", "ran"]]
    path = write(tmp_path, f"{name}.{kind}", content)  # unpacked on its way, as by a browser
    assert list(read_documents(settings(train_file=path))["train"].texts) == texts


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet"])
def test_a_damaged_compressed_file_is_refused_in_one_line(tmp_path, name, kind):
    whole = COMPRESS[kind](b"a b" + random.Random(0).randbytes(10_000).hex().encode())
    middle = whole[:1000] + b"damage" + whole[1006:]  # Zstandard need not notice
    for damaged in (whole[:-20], whole[:12], whole[:-20] if kind == "zst" else middle):
        said = refusal(tmp_path, f"{name}.{kind}", damaged, read_documents)
        assert re.fullmatch(": cannot be read(: damaged or cut short| as parquet: ).*", said)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_line_that_unpacks_without_end_is_refused_as_a_line_is(tmp_path, kind):
    bomb = COMPRESS[kind](b"a\n" + b"b" * (LONGEST_LINE + 1))
    said = refusal(tmp_path, f"a.txt.{kind}", bomb, read_documents)
    assert said.startswith(":2: a line of more than 16,777,216 bytes")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    said = message(read_documents, train_file=str(tmp_path / "a.txt"))
    assert "a.txt: a pipe or a device; expected a file" in said


@pytest.mark.parametrize("wrong", [b"\xff", b"\0", b"\xc3"])
def test_a_wrong_byte_is_found_where_it_stands(tmp_path, wrong):
    text = refusal(tmp_path, "a.txt", b"one\ntw\xc3\xb6\n\nfour " + wrong, read_documents)
    assert text.startswith(f":4: byte 0x{wrong[0]:02x} at offset 15 is not UTF-8 text")
    with pytest.raises(ValueError) as whole:
        read_text(tmp_path / "a.txt")
    assert str(whole.value).endswith(text)


def test_texts_can_be_gone_through_again_counted_and_sliced_like_a_list():
    listed = ["a", "b", "c", "d", "e"]
    texts = documents("", "a", "b", " ", "c", "d", "e", "\t")
    for part in (slice(None), slice(2), slice(2, None), slice(1, 3), slice(3, 1), slice(9, 20)):
        for _ in range(2):
            assert list(texts[part]) == listed[part] and len(texts[part]) == len(listed[part])
        assert list(texts[1:][part]) == listed[1:][part]
    assert not texts[5:]


@pytest.mark.parametrize("percentage", [1, 20, 50, 99])
def test_texts_are_split_as_a_list_is(percentage):
    listed = [f"{n}" for n in range(23)]
    training, validation = split_documents(documents(*listed), percentage)
    assert (list(training), list(validation)) == split_documents(listed, percentage)


def test_the_fingerprint_says_what_is_in_the_documents():
    prints = [
        documents("ab", "c").fingerprint,
        documents("a", "bc").fingerprint,
        documents("abc").fingerprint,
        documents("c", "ab").fingerprint,
        documents("ab", "c")[:1].fingerprint,
        documents("ab", "c")[1:].fingerprint,
        documents("ä", "c").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert documents("ab", "", "c").fingerprint == prints[0]


def test_the_same_documents_in_another_format_have_the_same_fingerprint(tmp_path):
    texts = ["a b", "", "c"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    paths = [
        write(tmp_path, "a.txt", "\n".join(texts)),
        write(tmp_path, "a.jsonl", document_rows(texts)),
        write(tmp_path, "a.csv", 'text\na b\n""\nc\n'),
        str(tmp_path / "a.parquet"),
    ]
    read = [read_documents(settings(train_file=path))["train"] for path in paths]
    assert len({split.texts.fingerprint for split in read}) == 1
    assert [split.left_out for split in read] == [{"empty documents": 1}] * len(read)


@pytest.mark.parametrize("part", [slice(1), slice(1, None), slice(2, 2)])
def test_any_part_of_a_file_notices_that_the_file_has_changed(tmp_path, part):
    texts = read_documents(settings(train_file=write(tmp_path, "a.txt", "a\nb\nc\n")))[
        "train"
    ].texts
    write(tmp_path, "a.txt", "a\nb\nd\n")
    with pytest.raises(ValueError, match=r"a\.txt: has changed"):
        list(texts[part])


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "hub"])
def test_batches_lose_no_document(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tables, "BATCH", 7)
    texts = [f"document {n}" if n % 5 else "" for n in range(100)]
    given = {"train_file": str(tmp_path / f"a.{kind}")}
    if kind == "txt":
        write(tmp_path, "a.txt", "\n".join(texts))
    elif kind == "jsonl":
        write(tmp_path, "a.jsonl", document_rows(texts))
    elif kind == "parquet":
        pq.write_table(pa.table({"text": texts}), given["train_file"], row_group_size=30)
    else:
        shuffled = Dataset.from_dict({"text": texts[::-1], "n": range(100)}).select(
            range(100)[::-1]
        )
        builder = Mock(**{"as_dataset.return_value": DatasetDict(train=shuffled)})
        builder.config.data_files = None
        monkeypatch.setattr("datasets.load_dataset_builder", lambda *_: builder)
        given = {"dataset_name": "some/corpus"}
    read = read_documents(settings(**given))["train"]
    for _ in range(2):
        assert list(read.texts) == [text for text in texts if text]
    assert read.left_out == {"empty documents": 20}


MEMORY = Path("/proc/self/status")


@pytest.mark.slow
@pytest.mark.skipif(
    not MEMORY.exists() or "RssAnon" not in MEMORY.read_text(), reason="Linux tells"
)
@pytest.mark.parametrize(("kind", "way"), [("txt", "lines"), ("jsonl", "blocks")])
def test_four_times_the_corpus_takes_no_more_memory(tmp_path, kind, way):
    """From reading through encoding, counting and cutting batches, in a process of its own."""
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("memory_of_a_corpus.py"), tmp_path, kind, way],
        capture_output=True,
        text=True,
        check=True,
    )
    small, large, file_growth = map(float, run.stdout.split())
    assert file_growth > 20
    assert large - small < 4, f"{large - small} MB more for {file_growth} MB"
