"""Words and tags to sub-words and labels; windows over sentences that are too long for the model.

The first sub-word of a word has its label and all other tokens have -100, as in chapter 4 of
*Natural Language Processing with Transformers*. A sentence that is too long becomes several rows
that overlap. A word is labelled only in the row with most of its context, so every word is trained
on and scored exactly once.

R rows with N tokens in all, of which K carry a label; W words in S sentences.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerFast

from rawtrain.data.cache import Cache, key_of
from rawtrain.data.columns import IGNORED, Columns, flat, offsets_of, positions_in_rows
from rawtrain.data.encoding import encode_rows, truncating, warn_of_unknown
from rawtrain.data.files import sha256_of

CHUNK = 1000  # sentences that the tokenizer gets at once


@dataclass(frozen=True)
class EncodedWords:
    """A split, encoded."""

    columns: Columns  # input_ids, labels, and token_type_ids unless they are all 0
    scored_word: np.ndarray  # [K] the word whose first sub-word a labelled token is, else -1
    gold: np.ndarray  # [W] label ids of all words
    sentence_offsets: np.ndarray  # [S + 1]
    num_long: int  # sentences that did not fit into one row
    num_cut: int  # words lost because long sentences were truncated (stride 0)
    num_cut_entities: int  # entities that begin with such a word
    is_unseen: np.ndarray  # bool [W] words of which the tokenizer makes no sub-word
    num_unseen_entities: int  # entities of such words alone

    @property
    def num_scored(self) -> int:
        return int((self.scored_word >= 0).sum())

    @property
    def num_unseen(self) -> int:
        return int(self.is_unseen.sum())

    def word_predictions(self, predictions: np.ndarray, outside: int) -> np.ndarray:
        """The label id of each word [W] from those of the labelled tokens [K].

        Words that are in no row (truncated, or without a sub-word) get the label `outside`.
        """
        words = np.full(len(self.gold), outside, dtype=np.int64)
        scored = self.scored_word >= 0
        words[self.scored_word[scored]] = predictions[scored]
        return words


def encode_words(
    tokenizer: PreTrainedTokenizerFast,
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    label2id: dict[str, int],
    max_length: int,
    stride: int,
    label_all_tokens: bool = False,
    num_workers: int | None = None,
    cache: Cache | None = None,
) -> EncodedWords:
    """Encode sentences, given by their words and the tags of these, for token classification.

    max_length: the longest row in tokens. stride: the overlap, in sub-words, of the rows of a
    longer sentence; 0 truncates it instead, as run_ner.py does.
    label_all_tokens: label the later sub-words of a word too, a B- as I-, as run_ner.py does.
    num_workers: threads that encode (default: one for each core). cache: keeps the sub-words; the
    labels are added to them each time.
    Raises ValueError if a row has no room beyond what it repeats of the row before.
    """
    _check_room(tokenizer, max_length, stride)
    rows, sentence_of = _windows(tokenizer, words, max_length, stride, num_workers, cache)
    all_tags = [tag for sentence in tags for tag in sentence]
    is_unseen = ~np.isin(np.arange(len(all_tags)), rows.values["word"])
    if not stride:
        rows = rows.select(np.flatnonzero(np.diff(sentence_of, prepend=-1)))

    values = dict(rows.values)
    word = values.pop("word")
    is_unknown = (values["input_ids"] == tokenizer.unk_token_id) & (word >= 0)
    warn_of_unknown(is_unknown.sum(), (word >= 0).sum())
    is_owned, is_first = _owned_tokens(word, rows.lengths)
    gold = np.array([label2id[tag] for tag in all_tags], dtype=np.int64)
    values["labels"] = np.full(len(word), IGNORED)
    values["labels"][is_first] = gold[word[is_first]]
    if label_all_tokens:
        later = is_owned & ~is_first
        values["labels"][later] = _inside(label2id)[gold[word[later]]]
    is_cut = ~is_unseen & ~np.isin(np.arange(len(all_tags)), word[is_first])
    prefix = np.array([tag[:2] for tag in all_tags], dtype="U2")
    begins, is_seen_inside = prefix == "B-", np.isin(prefix, ["B-", "I-"]) & ~is_unseen
    entity = np.cumsum(begins)  # [W]: of a word inside one its number, from 1
    return EncodedWords(
        columns=Columns(values, rows.offsets),
        scored_word=np.where(is_first, word, -1)[values["labels"] != IGNORED],
        gold=gold,
        sentence_offsets=offsets_of([len(sentence) for sentence in words]),
        num_long=int((np.bincount(sentence_of) > 1).sum()),
        num_cut=int(is_cut.sum()),
        num_cut_entities=int((begins & is_cut).sum()),
        is_unseen=is_unseen,
        num_unseen_entities=len(np.setdiff1d(entity[begins], entity[is_seen_inside])),
    )


def default_stride(tokenizer: PreTrainedTokenizerFast, max_length: int) -> int:
    """The overlap of windows if none is set: a quarter of the sub-words that a row has room for."""
    return (max_length - tokenizer.num_special_tokens_to_add()) // 4


def _check_room(tokenizer, max_length, stride):
    num_special = tokenizer.num_special_tokens_to_add()
    room = max_length - num_special
    if room < 1:
        raise ValueError(
            f"a row of {max_length} tokens has no room for a sub-word: {num_special} are special; "
            f"give a --max_seq_length above {num_special}"
        )
    if stride >= room:
        raise ValueError(
            f"--stride {stride} leaves nothing new in a window of {room} sub-words (a row of "
            f"{max_length} tokens without its {num_special} special ones); give at most {room - 1}"
        )


def _windows(tokenizer, words, max_length, stride, num_workers, cache):
    """A row for each window over each sentence, and the sentence of each row [R].

    The column `word` numbers the words of all sentences; special tokens have -1.
    """
    first_word = offsets_of([len(sentence) for sentence in words])
    has_types = "token_type_ids" in tokenizer.model_input_names
    side = "right" if stride else tokenizer.truncation_side  # windows are laid out from the left
    with truncating(tokenizer, max_length, stride, side) as backend:
        key = None
        if cache:
            data = sha256_of(json.dumps(words))
            key = key_of(backend, rows="words", data=data, has_types=has_types)
        encode = partial(_encode_chunk, backend, words, first_word, has_types)
        starts = partial(range, 0, len(words), CHUNK)
        values = encode_rows(encode, starts, num_workers, cache, key)
    offsets, sentence_of = offsets_of(values.pop("lengths")), values.pop("sentence_of")
    if has_types and not values["token_type_ids"].any():
        del values["token_type_ids"]  # every model assumes zeros by default
    return Columns(values, offsets), sentence_of


def _encode_chunk(backend, words, first_word, has_types, start):
    """The columns of the sentences from `start` on, and what is known of each row."""
    sentences = backend.encode_batch(words[start : start + CHUNK], is_pretokenized=True)
    windows = [[sentence, *sentence.overflowing] for sentence in sentences]
    rows = [row for sentence in windows for row in sentence]
    lengths = np.array([len(row) for row in rows])
    sentence_of = start + np.repeat(np.arange(len(windows)), [len(rows) for rows in windows])
    word = flat(row.word_ids for row in rows)
    word = np.where(word >= 0, word + np.repeat(first_word[sentence_of], lengths), -1)
    ids = flat(row.ids for row in rows)
    values = {"word": word, "input_ids": ids, "sentence_of": sentence_of, "lengths": lengths}
    if has_types:
        values["token_type_ids"] = flat(row.type_ids for row in rows)
    return values


def _owned_tokens(word, lengths):
    """Two masks [N]: tokens of the words that their row owns, and the first token of each of these.

    A word is owned by the row in which its first sub-word is farthest from both ends; of equals by
    the first. The ends of the sentence need no exception: any other row with this sub-word has less
    context on that side.
    """
    masks = np.zeros((2, len(word)), dtype=bool)
    where = np.flatnonzero(word >= 0)  # special tokens are no context
    row = np.repeat(np.arange(len(lengths)), lengths)[where]
    lengths, word = np.bincount(row, minlength=len(lengths)), word[where]

    # Wrong in a row that begins within a word, which is harmless: a row before it owns the word.
    is_first = np.diff(word, prepend=-1) != 0
    before = positions_in_rows(lengths)
    context = np.minimum(before, lengths[row] - 1 - before)
    firsts = np.flatnonzero(is_first)
    firsts = firsts[np.lexsort((-row[firsts], context[firsts]))]
    owner = np.empty(word.max(initial=-1) + 1, dtype=np.int64)
    owner[word[firsts]] = row[firsts]  # of several rows the last is kept: with the most context

    masks[0, where] = is_owned = owner[word] == row
    masks[1, where] = is_owned & is_first
    return masks


def _inside(label2id):
    """For each label id, that of the later words of the same entity, if there is such a label."""
    inside = np.arange(len(label2id))
    for tag, number in label2id.items():
        if tag.startswith("B-"):
            inside[number] = label2id.get(f"I-{tag[2:]}", number)
    return inside
