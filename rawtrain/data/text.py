"""Documents to rows of tokens: a row a document, or blocks over all of them."""

from dataclasses import dataclass

import numpy as np

from rawtrain.data.columns import Columns, flat, offsets_of, positions_in_rows

CHUNK = 1000  # documents handed to the tokenizer at once


@dataclass(frozen=True)
class EncodedText:
    """R rows with N tokens in all, special tokens counted."""

    columns: Columns  # input_ids, special (bool: never masked), word_starts (bool)
    num_documents: int
    num_cut_documents: int  # longer than a row (line_by_line)
    num_cut_tokens: int  # their tokens beyond it


def encode_documents(tokenizer, texts, max_length, line_by_line):
    """Encode documents for masked-language modelling.

    line_by_line: a row is a document, cut at `max_length` tokens. Otherwise the documents are put
    one after the other, each with its special tokens, and rows are blocks of `max_length` of that;
    the last is shorter, and nothing is lost between the documents handed over at once.
    """
    longest = max_length if line_by_line else None
    chunks = [
        _encode_chunk(tokenizer, texts[start : start + CHUNK], longest)
        for start in range(0, len(texts), CHUNK)
    ]
    tokenizer.backend_tokenizer.no_truncation()  # or it stays, and is saved with the model
    values = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    lengths, num_cut = values.pop("length"), values.pop("num_cut")
    offsets = offsets_of(lengths)
    if not line_by_line:
        offsets = np.append(np.arange(0, offsets[-1], max_length), offsets[-1])
    return EncodedText(
        columns=Columns(values, offsets),
        num_documents=len(texts),
        num_cut_documents=int((num_cut > 0).sum()),
        num_cut_tokens=int(num_cut.sum()),
    )


def split_documents(texts, validation_percentage):
    """Training and validation documents: the first so many percent validate, as in run_mlm.py."""
    num_validation = max(1, round(len(texts) * validation_percentage / 100))
    return texts[num_validation:], texts[:num_validation]


def _encode_chunk(tokenizer, texts, max_length):
    """The columns of some documents, and `length` and `num_cut` for each of them."""
    encoded = tokenizer(
        texts,
        truncation=max_length is not None,
        max_length=max_length,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        verbose=False,  # a document longer than the model is what blocks are for
    )
    documents = encoded.encodings
    length = np.array([len(document) for document in documents])
    word = flat(document.word_ids for document in documents)
    begins = (positions_in_rows(length) == 0) | (np.diff(word, prepend=-1) != 0)
    return {
        "input_ids": flat(encoded["input_ids"]),
        "special": flat(encoded["special_tokens_mask"]).astype(bool),
        "word_starts": begins | (word < 0),  # a token that belongs to no word stands for itself
        "length": length,
        "num_cut": np.array([_num_tokens(document.overflowing) for document in documents]),
    }


def _num_tokens(pieces):
    """Tokens of a text, so without the special ones that every piece of it has."""
    return sum(piece.special_tokens_mask.count(0) for piece in pieces)
