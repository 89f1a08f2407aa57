"""Documents to rows of tokens: a row a document, or blocks over all of them."""

import copy
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
    pieces, document_of = _pieces(tokenizer, texts, max_length if line_by_line else None)
    is_cut_off = np.diff(document_of, prepend=-1) == 0  # [R] all but the first piece of a document
    documents = pieces.select(np.flatnonzero(~is_cut_off))
    values = dict(documents.values)
    word = values.pop("word")  # a token that belongs to no word stands for itself
    values["word_starts"] = (np.diff(word, prepend=-1) != 0) | (word < 0)
    values["word_starts"] |= positions_in_rows(documents.lengths) == 0
    offsets = documents.offsets
    if not line_by_line:
        offsets = np.append(np.arange(0, offsets[-1], max_length), offsets[-1])
    cut_off = pieces.select(np.flatnonzero(is_cut_off))
    return EncodedText(
        columns=Columns(values, offsets),
        num_documents=len(texts),
        num_cut_documents=len(np.unique(document_of[is_cut_off])),
        num_cut_tokens=int((~cut_off.values["special"]).sum()),
    )


def split_documents(texts, validation_percentage):
    """Training and validation documents: the first so many percent validate, as in run_mlm.py."""
    num_validation = max(1, round(len(texts) * validation_percentage / 100))
    return texts[num_validation:], texts[:num_validation]


def _pieces(tokenizer, texts, max_length):
    """A row for each piece of up to `max_length` tokens of each document, and its document [R].

    None makes one piece of each. The column `word` numbers the words of a document; special tokens
    have -1.
    """
    tokenizer = copy.deepcopy(tokenizer)  # how it truncates stays in it, and would be saved with it
    chunks, lengths, document_of = [], [], []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(
            texts[start : start + CHUNK],
            truncation=max_length is not None,
            max_length=max_length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
            verbose=False,  # a document longer than the model is what blocks are for
        )
        chunks.append(
            {
                "input_ids": flat(encoded["input_ids"]),
                "special": flat(encoded["special_tokens_mask"]).astype(bool),
                "word": flat(encoding.word_ids for encoding in encoded.encodings),
            }
        )
        lengths.append([len(row) for row in encoded["input_ids"]])
        document_of.append(start + np.array(encoded["overflow_to_sample_mapping"]))
    values = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return Columns(values, offsets_of(np.concatenate(lengths))), np.concatenate(document_of)
