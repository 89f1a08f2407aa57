"""Documents to rows of tokens: a row a document, or blocks over all of them."""

from dataclasses import dataclass

import numpy as np

from rawtrain.data.columns import Columns, offsets_of

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
    ids, special, word_starts, cuts = [], [], [], []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(
            texts[start : start + CHUNK],
            truncation=line_by_line,
            max_length=max_length if line_by_line else None,
            verbose=False,  # a document longer than the model is what blocks are for
        )
        for document in encoded.encodings:
            ids.append(np.array(document.ids, dtype=np.int32))
            special.append(np.array(document.special_tokens_mask, dtype=bool))
            word_starts.append(_word_starts(document.word_ids))
            cuts.append(sum(rest.special_tokens_mask.count(0) for rest in document.overflowing))
    values = {
        "input_ids": np.concatenate(ids),
        "special": np.concatenate(special),
        "word_starts": np.concatenate(word_starts),
    }
    num_tokens = len(values["input_ids"])
    if line_by_line:
        offsets = offsets_of([len(row) for row in ids])
    else:
        offsets = np.append(np.arange(0, num_tokens, max_length), num_tokens)
    return EncodedText(
        columns=Columns(values, offsets),
        num_documents=len(texts),
        num_cut_documents=sum(cut > 0 for cut in cuts),
        num_cut_tokens=sum(cuts),
    )


def split_documents(texts, validation_percentage):
    """Training and validation documents: the first so many percent validate, as in run_mlm.py."""
    num_validation = max(1, round(len(texts) * validation_percentage / 100))
    return texts[num_validation:], texts[:num_validation]


def _word_starts(word_ids):
    """Whether each token begins a word; one that belongs to none stands for itself."""
    words = np.array([-1 if word is None else word for word in word_ids])
    return (np.diff(words, prepend=-1) != 0) | (words < 0)
