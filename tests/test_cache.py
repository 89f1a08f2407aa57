"""The cache of encoded data: whole or not there, verified, and under a key that says all."""

import errno
import json
import logging
import multiprocessing
import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from datasets import config
from test_words import LABEL2ID, framed, word_piece

from rawtrain.data import cache as cache_module
from rawtrain.data.cache import Cache, cache_of, in_memory
from rawtrain.data.rows import documents_from
from rawtrain.data.text import encode_documents
from rawtrain.data.words import encode_words
from rawtrain.ner import NerSettings

TEXTS = ["ab a", "b.a ab abababab", "a", "ab bb a . a", "x ab"]
SENTENCES = [text.split() for text in TEXTS]


def numbers(num_chunks=3):
    """Chunks that are easily told apart."""
    for i in range(num_chunks):
        ids = np.arange(10 * i, 10 * i + 5, dtype=np.int32)
        yield {"ids": ids, "odd": ids % 2 == 1, "rows": np.array([5 + i])}


def never():
    raise AssertionError("encoded again")


def same(arrays, expected=None):
    expected = expected or in_memory(numbers())
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype and array.tolist() == expected[name].tolist()
    return True


def texts(documents=TEXTS):
    return documents_from(lambda: documents, "a list").texts


def encode_text(cache, documents=TEXTS, tokenizer=None, max_length=5, line_by_line=True):
    tokenizer = tokenizer or word_piece()
    return encode_documents(tokenizer, texts(documents), max_length, line_by_line, cache=cache)


def encode_sentences(cache, sentences=SENTENCES, tokenizer=None, max_length=6, stride=2):
    tags = [["O"] * len(sentence) for sentence in sentences]
    return encode_words(
        tokenizer or word_piece(), sentences, tags, LABEL2ID, max_length, stride, cache=cache
    )


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_same_arrays_come_back_and_nothing_is_encoded_again(tmp_path, caplog):
    cache = Cache(tmp_path / "new" / "folder")
    assert same(cache.fetch("key", numbers))
    assert caplog.text == ""
    with caplog.at_level(logging.INFO):
        assert same(cache.fetch("key", never))
    assert caplog.messages == [f"encoded rows come from the cache: {cache.folder / 'key'}"]
    assert entries(cache.folder) == ["key"]


def test_an_entry_is_files_that_are_mapped_and_cannot_be_changed(tmp_path):
    arrays = Cache(tmp_path).fetch("key", numbers)
    again = Cache(tmp_path).fetch("key", never)
    for name, array in (*arrays.items(), *again.items()):
        assert type(array) is np.ndarray and isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        assert (tmp_path / "key" / f"{name}.bin").read_bytes() == array.tobytes()


def test_an_array_may_be_empty(tmp_path):
    for _ in range(2):
        arrays = Cache(tmp_path).fetch("key", lambda: [{"ids": np.zeros(0)}])
        assert len(arrays["ids"]) == 0


@pytest.mark.parametrize("encode", [encode_text, partial(encode_text, line_by_line=False)])
def test_documents_from_the_cache_are_those_encoded_in_memory(tmp_path, encode):
    expected = encode(None)
    for _ in range(2):
        found = encode(Cache(tmp_path))
        assert same(found.columns.values, expected.columns.values)
        assert found.num_cut_tokens == expected.num_cut_tokens
        assert found.columns.offsets.tolist() == expected.columns.offsets.tolist()
        assert found.num_documents == expected.num_documents
        assert found.num_cut_documents == expected.num_cut_documents
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize("stride", [0, 2])
def test_words_from_the_cache_are_those_encoded_in_memory(tmp_path, stride):
    typed = framed("$A:1 [SEP]:1 [SEP]:1 [CLS]:2", word_piece(), "[CLS]", "[SEP]")
    for tokenizer in (word_piece(), typed):
        expected = encode_sentences(None, tokenizer=tokenizer, stride=stride)
        for _ in range(2):
            found = encode_sentences(Cache(tmp_path), tokenizer=tokenizer, stride=stride)
            columns = [(e.columns.values | {"at": e.columns.offsets}) for e in (found, expected)]
            assert same(*columns) and found.num_long == expected.num_long
            assert found.scored_word.tolist() == expected.scored_word.tolist()
    assert len(entries(tmp_path)) == 2


def without_special_tokens():
    tokenizer = word_piece()
    tokenizer.backend_tokenizer.post_processor = None
    return tokenizer


def with_a_new_word():
    tokenizer = word_piece()
    tokenizer.add_tokens(["abab"])
    return tokenizer


def splitting_special_tokens():
    tokenizer = word_piece()
    tokenizer.split_special_tokens = True
    return tokenizer


TOKENIZERS = {
    "post-processor": without_special_tokens,
    "vocabulary": with_a_new_word,
    "split_special_tokens": splitting_special_tokens,
    "truncation_side": partial(word_piece, truncation_side="left"),
    "lower case": partial(word_piece, do_lower_case=False),
}


@pytest.mark.parametrize("change", TOKENIZERS)
def test_another_tokenizer_has_another_key(tmp_path, change):
    for encode in (encode_text, partial(encode_sentences, stride=0)):
        before = len(entries(tmp_path))
        for tokenizer in (word_piece(), TOKENIZERS[change](), TOKENIZERS[change]()):
            encode(Cache(tmp_path), tokenizer=tokenizer)
        assert len(entries(tmp_path)) - before == 2


def test_whether_the_model_knows_token_types_is_part_of_the_key_of_words(tmp_path):
    untyped = word_piece(model_input_names=["input_ids", "attention_mask"])
    for tokenizer in (untyped, word_piece(), untyped):
        encode_sentences(Cache(tmp_path), tokenizer=tokenizer)
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize(
    ("encode", "change"),
    [
        (encode_text, {"documents": ["aba", *TEXTS[1:]]}),
        (encode_text, {"documents": TEXTS[:-1]}),
        (encode_text, {"documents": [*TEXTS[:-2], " ".join(TEXTS[-2:])]}),
        (encode_text, {"max_length": 6}),
        (encode_text, {"line_by_line": False}),
        (encode_sentences, {"sentences": [["a", "b"], *SENTENCES[1:]]}),
        (encode_sentences, {"sentences": [SENTENCES[0] + SENTENCES[1], *SENTENCES[2:]]}),
        (encode_sentences, {"max_length": 7}),
        (encode_sentences, {"stride": 1}),
    ],
)
def test_other_data_or_settings_have_another_key(tmp_path, encode, change):
    for given in ({}, change, {}, change):
        encode(Cache(tmp_path), **given)
    assert len(entries(tmp_path)) == 2


def test_other_versions_have_another_key(tmp_path, monkeypatch):
    encode_text(Cache(tmp_path))
    monkeypatch.setattr(cache_module, "FORMAT", 0)
    encode_text(Cache(tmp_path))
    monkeypatch.setattr(cache_module.tokenizers, "__version__", "0")
    encode_text(Cache(tmp_path))
    assert len(entries(tmp_path)) == 3


def test_neither_training_and_validation_nor_documents_and_words_share_a_key(tmp_path):
    for part in (texts(["a", "a"])[:1], texts(["a", "a"])[1:]):
        encode_documents(word_piece(), part, 6, True, cache=Cache(tmp_path))
    encode_sentences(Cache(tmp_path), [["a"]], stride=0)
    assert len(entries(tmp_path)) == 3


def test_the_key_does_not_depend_on_what_the_tokenizer_was_used_for(tmp_path):
    tokenizer = word_piece()
    encode_text(Cache(tmp_path), tokenizer=tokenizer)
    tokenizer(["a", "ab"], padding="max_length", max_length=30, truncation=True)
    encode_text(Cache(tmp_path), tokenizer=tokenizer)
    assert len(entries(tmp_path)) == 1


def test_blocks_of_every_length_come_from_one_entry(tmp_path):
    for max_length in (3, 7):
        found = encode_text(Cache(tmp_path), max_length=max_length, line_by_line=False)
        assert found.columns.lengths.max() == max_length
    assert len(entries(tmp_path)) == 1


def test_overwriting_encodes_again_and_leaves_older_arrays_readable(tmp_path):
    arrays = Cache(tmp_path).fetch("key", lambda: numbers(2))
    assert same(Cache(tmp_path, overwrite=True).fetch("key", numbers))
    assert same(Cache(tmp_path).fetch("key", never))
    assert same(arrays, in_memory(numbers(2)))
    assert entries(tmp_path) == ["key"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interrupted_entry_leaves_nothing(tmp_path, interruption):
    def interrupted():
        yield from numbers(2)
        assert len(entries(tmp_path)) == 1 and entries(tmp_path)[0].startswith(".writing-")
        raise interruption

    with pytest.raises(interruption):
        Cache(tmp_path).fetch("key", interrupted)
    assert entries(tmp_path) == []


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    for name, age_hours in ((".writing-old", 25), (".writing-new", 1), ("a-key", 25)):
        (tmp_path / name).mkdir()
        then = time.time() - age_hours * 3600
        os.utime(tmp_path / name, (then, then))
    Cache(tmp_path).fetch("key", numbers)
    assert entries(tmp_path) == [".writing-new", "a-key", "key"]


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def damages(entry):
    """Ways to damage each file of an entry."""
    for path in sorted(entry.iterdir()):
        size = path.stat().st_size
        yield path.unlink
        yield from (partial(os.truncate, path, length) for length in (0, size // 2, size - 2))
        in_data = range(size) if path.suffix == ".bin" else range(2, size - 2, 9)
        yield from (partial(flip, path, position) for position in in_data)


def test_a_damaged_entry_is_encoded_again(tmp_path, caplog):
    Cache(tmp_path).fetch("key", numbers)
    all_damages = list(damages(tmp_path / "key"))
    for damage in all_damages:
        damage()
        called = []
        assert same(Cache(tmp_path).fetch("key", lambda: called.append(1) or numbers()))  # noqa: B023
        assert called, damage
    assert len(all_damages) > 120
    assert [f"{tmp_path / 'key'} is damaged" in m for m in caplog.messages] == [True] * len(
        all_damages
    )


def test_an_entry_without_its_json_or_with_another_is_encoded_again(tmp_path):
    for content in ("", "[]", "{}", '{"types": [], "crc32": 0}'):
        Cache(tmp_path).fetch("key", numbers)
        (tmp_path / "key" / "entry.json").write_text(content)
        assert same(Cache(tmp_path).fetch("key", numbers))
        assert same(Cache(tmp_path).fetch("key", never))


def fetch_beside_another(folder, barrier, queue, overwrite):
    def chunks():
        barrier.wait()  # both are encoding
        yield from numbers()
        barrier.wait()  # and both have all of it

    entry = Cache(folder, overwrite).fetch("key", chunks)
    queue.put(same(entry))


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_processes_at_once_both_have_the_rows_and_leave_one_entry(tmp_path, overwrite):
    if overwrite:
        Cache(tmp_path).fetch("key", lambda: numbers(1))
    forked = multiprocessing.get_context("fork")  # nothing is to be imported again
    barrier, queue = forked.Barrier(2, timeout=600), forked.Queue()
    arguments = (tmp_path, barrier, queue, overwrite)
    both = [forked.Process(target=fetch_beside_another, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert queue.get() and queue.get()
    assert entries(tmp_path) == ["key"]
    assert same(Cache(tmp_path).fetch("key", never))


def test_the_second_to_finish_keeps_its_own_arrays(tmp_path):
    def overtaken():
        assert same(Cache(tmp_path).fetch("key", numbers))
        yield from numbers()

    assert same(Cache(tmp_path).fetch("key", overtaken))
    assert entries(tmp_path) == ["key"]


def test_an_entry_that_appears_at_the_last_moment_is_left_there(tmp_path, monkeypatch, caplog):
    rmtree = shutil.rmtree

    def remove_and_let_another_in(folder, **options):
        rmtree(folder, **options)
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        assert same(Cache(tmp_path).fetch("key", numbers))

    Cache(tmp_path).fetch("key", lambda: numbers(1))
    monkeypatch.setattr(shutil, "rmtree", remove_and_let_another_in)
    assert same(Cache(tmp_path, overwrite=True).fetch("key", numbers))
    assert caplog.text == "" and entries(tmp_path) == ["key"]
    assert same(Cache(tmp_path).fetch("key", never))


def test_an_entry_that_cannot_get_its_name_is_used_without(tmp_path, monkeypatch, caplog):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "rename", refuse)
    assert same(Cache(tmp_path).fetch("key", numbers))
    assert "cannot be kept" in caplog.text and entries(tmp_path) == []


def test_where_nothing_can_be_written_the_run_continues_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    for key in ("train", "validation"):
        assert same(Cache(tmp_path / "file" / "cache").fetch(key, numbers))
    [warning] = caplog.messages
    assert f"cannot be kept in {tmp_path / 'file' / 'cache'}: Not a directory" in warning


def test_a_full_disk_does_not_end_the_run_either(tmp_path, caplog, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert same(Cache(tmp_path).fetch("key", numbers))
    assert "No space left on device" in caplog.text
    assert entries(tmp_path) == []


def test_a_tokenizer_with_a_part_in_python_is_used_without_the_cache(tmp_path, caplog):
    from tokenizers import PreTokenizedString
    from tokenizers.pre_tokenizers import PreTokenizer

    class AtBlanks:
        def pre_tokenize(self, text: PreTokenizedString):
            text.split(lambda _, part: part.split(" ", "removed"))

    tokenizer = word_piece()
    tokenizer.backend_tokenizer.pre_tokenizer = PreTokenizer.custom(AtBlanks())
    found = encode_text(Cache(tmp_path), tokenizer=tokenizer)
    assert len(found.columns) == len(TEXTS)
    assert entries(tmp_path) == [] and "are not cached" in caplog.text


def test_the_cache_of_the_jobs_lies_beside_that_of_datasets(monkeypatch, tmp_path):
    assert str(config.HF_DATASETS_CACHE) == os.environ["HF_DATASETS_CACHE"]  # so it is not a user's
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path))
    assert cache_of(NerSettings()) == Cache(tmp_path / "rawtrain", overwrite=False)
    assert cache_of(NerSettings(overwrite_cache=True)).overwrite


def test_the_json_says_what_is_in_the_arrays(tmp_path):
    Cache(tmp_path).fetch("key", numbers)
    noted = json.loads((tmp_path / "key" / "entry.json").read_text())
    assert noted["types"] == {"ids": "<i4", "odd": "|b1", "rows": "<i8"}
