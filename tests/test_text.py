"""Documents to rows: cut or in blocks, nothing is lost in silence."""

import logging

import numpy as np
import pytest
from datasets import ReadInstruction
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import RobertaTokenizer

from rawtrain.data import text as text_module
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.data.text import encode_documents, split_documents

BYTES = sorted(ByteLevel.alphabet())
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *BYTES, "ab", "Ġa"]
TOKENIZERS = {
    "word-piece": train_small_tokenizer(["abba caddac feed a bad cab"], 40),
    "byte-level": RobertaTokenizer(
        vocab={piece: number for number, piece in enumerate(PIECES)},
        merges=[("a", "b"), ("Ġ", "a")],
    ),
}
many_cases = settings(max_examples=100)
names = st.sampled_from(list(TOKENIZERS))
texts = st.lists(st.text("abc [].MASEP", max_size=40), min_size=1, max_size=7)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "CHUNK", 2)  # the documents of a test come in several
        yield


def rows_of(columns, name="input_ids"):
    return [columns.row(number)[name].tolist() for number in range(len(columns))]


def encode_alone(tokenizer, text):
    return tokenizer(text, return_special_tokens_mask=True, verbose=False)


def with_tokens(tokenizer, texts):
    """The texts of which the tokenizer makes a token beside the special ones."""
    return [text for text in texts if 0 in encode_alone(tokenizer, text)["special_tokens_mask"]]


@many_cases
@given(names, texts, st.integers(3, 12))
def test_line_by_line_a_row_is_what_the_tokenizer_makes_of_a_document(name, texts, max_length):
    tokenizer = TOKENIZERS[name]
    encoded = encode_documents(tokenizer, texts, max_length, line_by_line=True)
    cut = [
        tokenizer(text, truncation=True, max_length=max_length)
        for text in with_tokens(tokenizer, texts)
    ]
    assert rows_of(encoded.columns) == [document["input_ids"] for document in cut]
    assert encoded.num_without_tokens == len(texts) - len(cut)


@many_cases
@given(names, texts, st.integers(3, 12))
def test_line_by_line_what_is_cut_off_is_counted(name, texts, max_length):
    tokenizer = TOKENIZERS[name]
    encoded = encode_documents(tokenizer, texts, max_length, line_by_line=True)
    whole = [len(encode_alone(tokenizer, text)["input_ids"]) for text in texts]
    assert encoded.num_documents == len(texts)
    assert encoded.num_cut_documents == sum(length > max_length for length in whole)
    assert encoded.num_cut_tokens == sum(max(0, length - max_length) for length in whole)


@many_cases
@given(names, texts, st.integers(3, 12))
def test_blocks_end_to_end_are_all_documents_end_to_end(name, texts, max_length):
    tokenizer = TOKENIZERS[name]
    encoded = encode_documents(tokenizer, texts, max_length, line_by_line=False)
    whole = [
        i
        for text in with_tokens(tokenizer, texts)
        for i in encode_alone(tokenizer, text)["input_ids"]
    ]
    assert encoded.columns.values["input_ids"].tolist() == whole
    full, last = encoded.columns.lengths.tolist()[:-1], encoded.columns.lengths.tolist()[-1:]
    assert set(full) <= {max_length} and all(0 < length <= max_length for length in last)
    assert sum(full + last) == len(whole)
    assert encoded.num_without_tokens == len(texts) - len(with_tokens(tokenizer, texts))
    assert (encoded.num_cut_documents, encoded.num_cut_tokens) == (0, 0)


@many_cases
@given(names, texts, st.booleans())
def test_words_start_where_word_ids_says_and_with_every_document(name, texts, line_by_line):
    tokenizer = TOKENIZERS[name]
    encoded = encode_documents(tokenizer, texts, 500, line_by_line)
    expected = []
    for text in with_tokens(tokenizer, texts):
        word_ids = encode_alone(tokenizer, text).word_ids()
        for before, word in zip([None, *word_ids], word_ids, strict=False):
            expected.append(word is None or word != before)
    assert encoded.columns.values["word_starts"].tolist() == expected


@many_cases
@given(names, texts)
def test_special_are_the_tokens_that_the_tokenizer_added(name, texts):
    tokenizer = TOKENIZERS[name]
    encoded = encode_documents(tokenizer, texts, 500, line_by_line=True)
    masks = [
        encode_alone(tokenizer, text)["special_tokens_mask"]
        for text in with_tokens(tokenizer, texts)
    ]
    assert rows_of(encoded.columns, "special") == [list(map(bool, mask)) for mask in masks]


def test_a_special_token_that_the_author_wrote_is_text():
    tokenizer = TOKENIZERS["word-piece"]
    columns = encode_documents(tokenizer, ["[MASK] a [SEP]"], 9, line_by_line=True).columns
    tokens = tokenizer.convert_ids_to_tokens(columns.row(0)["input_ids"].tolist())
    assert tokens == ["[CLS]", "[MASK]", "a", "[SEP]", "[SEP]"]
    assert columns.row(0)["special"].tolist() == [True, False, False, False, True]


def test_two_documents_of_one_word_do_not_become_one_word():
    tokenizer = train_small_tokenizer(["a b"])
    tokenizer.backend_tokenizer.post_processor = None  # no special token stands between them
    columns = encode_documents(tokenizer, ["a", "a", "b"], 9, line_by_line=False).columns
    assert columns.values["word_starts"].tolist() == [True, True, True]


def test_a_document_longer_than_the_model_gives_no_warning(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer = train_small_tokenizer(["a b"], model_max_length=8)  # each warns once
    encode_documents(tokenizer, ["a b " * 20], 8, line_by_line=False)
    assert caplog.text == ""


def test_the_tokenizer_does_not_keep_truncating():
    tokenizer = TOKENIZERS["word-piece"]
    encode_documents(tokenizer, ["a b c d e"], 4, line_by_line=True)
    assert tokenizer.backend_tokenizer.truncation is None


@many_cases
@given(st.integers(1, 3000), st.integers(1, 99))
def test_documents_are_split_as_datasets_slices_percentages(num_documents, percentage):
    texts = list(range(num_documents))
    sizes = {"train": num_documents}
    [first] = ReadInstruction.from_spec(f"train[:{percentage}%]").to_absolute(sizes)
    [rest] = ReadInstruction.from_spec(f"train[{percentage}%:]").to_absolute(sizes)
    training, validation = split_documents(texts, percentage)
    if first.to > 0:
        assert validation == texts[: first.to] and training == texts[rest.from_ :]
    else:  # fewer than half a document
        assert validation == texts[:1] and training == texts[1:]


def test_the_columns_are_as_small_as_they_can_be():
    values = encode_documents(
        TOKENIZERS["word-piece"], ["a b"], 8, line_by_line=True
    ).columns.values
    assert {name: array.dtype for name, array in values.items()} == {
        "input_ids": np.int32,
        "special": np.bool_,
        "word_starts": np.bool_,
    }
