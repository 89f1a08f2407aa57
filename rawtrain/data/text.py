"""Documents to rows of tokens: a row for each document, or blocks over all of them."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from transformers import PreTrainedTokenizerFast

from rawtrain.data.cache import Cache, key_of
from rawtrain.data.columns import Columns, flat, offsets_of, positions_in_rows
from rawtrain.data.encoding import encode_rows, truncating, warn_of_unknown
from rawtrain.data.rows import Texts

logger = logging.getLogger(__name__)

CHUNK = 1000  # documents that the tokenizer gets at once, or fewer
CHUNK_CHARACTERS = 2**20  # if they are long, because several chunks are in memory at once
COUNTED = 2**20  # tokens counted at once

SomeTexts = TypeVar("SomeTexts", Texts, list[str])


@dataclass(frozen=True)
class EncodedText:
    """R rows with N tokens in all, special tokens counted."""

    columns: Columns  # input_ids, special (bool: never masked), word_starts (bool)
    num_documents: int
    num_without_tokens: int  # of these documents; they are in no row
    num_cut_documents: int  # longer than a row (line_by_line)
    num_cut_tokens: int  # how many tokens these lost


def encode_documents(
    tokenizer: PreTrainedTokenizerFast,
    texts: Texts | list[str],
    max_length: int,
    line_by_line: bool,
    num_workers: int | None = None,
    cache: Cache | None = None,
) -> EncodedText:
    """Encode documents for masked-language modelling.

    line_by_line: a row is a document, truncated at `max_length` tokens. Otherwise the documents,
    each with its special tokens, are concatenated, and a row is a block of `max_length` of their
    tokens; the last is shorter, and no token is lost.
    num_workers: threads that encode (default: one for each core).
    cache: needs `Texts`. Then neither the documents nor the rows have to fit into memory.
    """
    longest = max_length if line_by_line else None
    with truncating(tokenizer, longest, side=tokenizer.truncation_side) as backend:
        key = None  # blocks of all lengths come from one entry
        if cache and isinstance(texts, Texts):
            key = key_of(backend, rows="documents with tokens", data=texts.fingerprint)
        encode, chunks = partial(_encode_chunk, backend), partial(_chunks_of, texts)
        values = encode_rows(encode, chunks, num_workers, cache, key)
    offsets, num_cut = offsets_of(values.pop("lengths")), values.pop("num_cut")
    if not line_by_line:
        offsets = np.append(np.arange(0, offsets[-1], max_length), offsets[-1])
    return EncodedText(
        Columns(values, offsets),
        num_documents=len(num_cut),
        num_without_tokens=int((num_cut < 0).sum()),
        num_cut_documents=int((num_cut > 0).sum()),
        num_cut_tokens=int(num_cut.clip(min=0).sum()),
    )


def split_documents(texts: SomeTexts, validation_percentage: int) -> tuple[SomeTexts, SomeTexts]:
    """Training and validation documents: the first percents validate, as in run_mlm.py."""
    num_validation = max(1, round(len(texts) * validation_percentage / 100))
    return texts[num_validation:], texts[:num_validation]


def count_tokens(columns: Columns) -> np.ndarray:
    """How often each token id occurs, special tokens not counted [highest id + 1]."""
    ids, special = columns.values["input_ids"], columns.values["special"]
    counts = np.zeros(ids.max(initial=0) + 1, dtype=np.int64)
    for start in range(0, len(ids), COUNTED):  # all at once may not fit into memory
        part = slice(start, start + COUNTED)
        counts += np.bincount(ids[part][~special[part]], minlength=len(counts))
    return counts


def check_tokens(
    tokenizer: PreTrainedTokenizerFast, columns: Columns, source: str, whole_words: bool = False
) -> None:
    """Refuse rows without a token to mask; warn of unknown tokens, and of special ones in texts.

    whole_words: they are masked as a whole; warn if these are about as long as rows.
    """
    counts = count_tokens(columns)
    counts = np.pad(counts, (0, max(0, len(tokenizer) - len(counts))))
    if not counts.any():
        problem = "the tokenizer makes no token of this text, so there is nothing to mask"
        raise ValueError(f"{source}: {problem}; is it made for this language and script?")
    starts, special_tokens = (columns.values[name] for name in ("word_starts", "special"))
    num_words = np.count_nonzero(starts) - np.count_nonzero(special_tokens)
    if whole_words and num_words < 2 * len(columns):
        logger.warning(
            f"{source}: words are as long as rows ({num_words:,} words in {len(columns):,} rows), "
            f"and --whole_word_mask hides a whole one or none: most rows have nothing to predict. "
            f"Leave it out"
        )
    warn_of_unknown(counts[tokenizer.unk_token_id] if tokenizer.unk_token else 0, counts.sum())
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    written = [
        f"{tokenizer.convert_ids_to_tokens(number)} ({counts[number]:,})"
        for number in sorted(special)
        if counts[number]
    ]
    if written:
        logger.warning(f"{source}: has special tokens, read as text: {', '.join(written)}")


def _chunks_of(texts):
    chunk, num_characters = [], 0
    for text in texts:
        chunk.append(text)
        num_characters += len(text)
        if len(chunk) == CHUNK or num_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk


def _encode_chunk(backend, texts):
    """The columns and lengths of texts with a token, and how many tokens each text lost, else -1.

    A text of which the tokenizer makes no token (U+200B alone) would be a row with nothing to mask.
    """
    encoded = backend.encode_batch(texts)
    num_cut = [
        sum(p.special_tokens_mask.count(0) for p in d.overflowing)
        if 0 in d.special_tokens_mask
        else -1
        for d in encoded
    ]
    documents = [one for one, cut in zip(encoded, num_cut, strict=True) if cut >= 0]
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    word = flat(document.word_ids for document in documents)
    begins = (positions_in_rows(lengths) == 0) | (np.diff(word, prepend=-1) != 0)
    return {
        "input_ids": flat(document.ids for document in documents),
        "special": flat(document.special_tokens_mask for document in documents).astype(bool),
        "word_starts": begins | (word < 0),  # a token of no word counts as a word
        "lengths": lengths,
        "num_cut": np.array(num_cut),
    }
