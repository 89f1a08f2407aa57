"""The tokenizer's work in threads: the same rows in the same order, few chunks at a time."""

import os
import threading

import numpy as np
import pytest
from test_words import LABEL2ID, TOKENIZERS, WORDS, word_piece

from rawtrain.data import text as text_module
from rawtrain.data import words as words_module
from rawtrain.data.encoding import encode_in_threads, num_cores, truncating
from rawtrain.data.text import encode_documents
from rawtrain.data.words import encode_words

rng = np.random.default_rng(0)
SENTENCES = [rng.choice(WORDS, rng.integers(1, 30)).tolist() for _ in range(300)]
TEXTS = [" ".join(sentence) for sentence in SENTENCES]


def documents(tokenizer, line_by_line, num_workers):
    encoded = encode_documents(tokenizer, TEXTS, 20, line_by_line, num_workers)
    counts = (encoded.num_documents, encoded.num_cut_documents, encoded.num_cut_tokens)
    return encoded.columns, counts


def words(tokenizer, stride, num_workers):
    tags = [["O"] * len(sentence) for sentence in SENTENCES]
    encoded = encode_words(
        tokenizer, SENTENCES, tags, LABEL2ID, 12, stride, num_workers=num_workers
    )
    return encoded.columns, (encoded.num_long, encoded.num_cut, encoded.scored_word.tolist())


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("encode", "way"), [(documents, True), (documents, False), (words, 3)])
def test_any_number_of_threads_and_any_chunks_make_the_same_rows(name, encode, way, monkeypatch):
    columns, counts = encode(TOKENIZERS[name], way, 1)
    for chunk in (7, 100):
        monkeypatch.setattr(text_module, "CHUNK", chunk)
        monkeypatch.setattr(words_module, "CHUNK", chunk)
        for num_workers in (None, 2, 5):
            found, found_counts = encode(TOKENIZERS[name], way, num_workers)
            assert found_counts == counts
            assert np.array_equal(found.offsets, columns.offsets)
            assert found.values.keys() == columns.values.keys()
            for column, array in found.values.items():
                assert np.array_equal(array, columns.values[column])


def test_results_are_in_order_although_later_ones_are_ready_earlier():
    is_second_ready = threading.Event()

    def encode(number):
        if number == 0:
            assert is_second_ready.wait(20)
        if number == 1:
            is_second_ready.set()
        return number

    assert list(encode_in_threads(encode, range(20), 2)) == list(range(20))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_few_chunks_are_held_at_once(num_workers):
    num_taken = 0

    def chunks():
        nonlocal num_taken
        for number in range(50):
            num_taken += 1
            yield number

    for done, _ in enumerate(encode_in_threads(lambda chunk: chunk, chunks(), num_workers)):
        assert num_taken - done <= num_workers + 1
    assert done == 49


def test_an_error_in_a_thread_or_in_the_reading_is_raised():
    def chunks():
        yield 1
        yield 0
        raise OSError("gone")

    results = encode_in_threads(lambda chunk: 1 / chunk, chunks(), 1)
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        list(results)
    with pytest.raises(ZeroDivisionError):
        list(encode_in_threads(lambda chunk: 1 / chunk, [1, 0, 1], 2))


@pytest.mark.parametrize(("before", "within"), [(None, "false"), ("true", "true")])
def test_the_backend_uses_one_thread_a_chunk_unless_told_otherwise(monkeypatch, before, within):
    name = "TOKENIZERS_PARALLELISM"
    monkeypatch.setenv(name, before or "")
    if before is None:
        monkeypatch.delenv(name)
    assert list(encode_in_threads(lambda _: os.environ[name], [1, 2])) == [within, within]


def test_all_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert num_cores() == 3


def test_documents_are_not_padded_or_cut_as_the_tokenizer_was_saved():
    tokenizer = word_piece()
    tokenizer.backend_tokenizer.enable_padding(length=50)
    tokenizer.backend_tokenizer.enable_truncation(3)
    columns = encode_documents(tokenizer, ["a b a b a"], 10, line_by_line=False).columns
    assert len(columns.values["input_ids"]) == 7


def test_a_tokenizer_is_left_without_truncation_whatever_happens():
    tokenizer = word_piece()
    with pytest.raises(KeyError), truncating(tokenizer, 3) as backend:
        assert backend.truncation["max_length"] == 3
        raise KeyError
    assert tokenizer.backend_tokenizer.truncation is None


def test_long_documents_come_in_small_chunks():
    chunks = list(text_module._chunks_of(["a" * 2**19] * 5 + ["a"] * 2500))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1000, 1000, 501]


def test_a_special_token_is_split_where_the_tokenizer_says_so():
    tokenizer = word_piece()
    tokenizer.split_special_tokens = True
    [row] = [encode_documents(tokenizer, ["[MASK]"], 9, line_by_line=True).columns.row(0)]
    assert row["input_ids"].tolist() == tokenizer("[MASK]")["input_ids"]
    assert tokenizer.mask_token_id not in row["input_ids"]
