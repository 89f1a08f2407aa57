"""Words and tags to sub-words and labels; windows over sentences that are too long for the model.

The first sub-word of a word carries its label and every other token -100, as in chapter 4 of
*Natural Language Processing with Transformers*. A sentence that does not fit becomes several rows
that overlap. Each word is labelled in one of them only, the one that shows most of its context, so
every word is trained on and scored exactly once.
"""

import copy
from dataclasses import dataclass

import numpy as np

from rawtrain.data.columns import Columns, offsets_of

IGNORED = -100
CHUNK = 1000  # sentences handed to the tokenizer at once


@dataclass(frozen=True)
class EncodedWords:
    """A split, encoded: R rows, K labelled tokens, W words in S sentences."""

    columns: Columns  # input_ids, labels (and token_type_ids where they are not all 0)
    scored_word: np.ndarray  # [K] the word that a labelled token is the first piece of, else -1
    gold: np.ndarray  # [W] label ids of all words
    sentence_offsets: np.ndarray  # [S + 1]
    num_long: int  # sentences that did not fit into one row
    num_cut: int  # words lost because long sentences were cut (stride 0)
    num_cut_entities: int
    num_without_pieces: int  # words that the tokenizer makes nothing of

    @property
    def num_scored(self):
        return int((self.scored_word >= 0).sum())

    def word_predictions(self, predictions, outside):
        """The label id of each word [W] from those of the labelled tokens [K].

        A word that no row shows (cut off, or without a sub-word) gets the label `outside`, so the
        scores count every word of the data.
        """
        words = np.full(len(self.gold), outside, dtype=np.int64)
        scored = self.scored_word >= 0
        words[self.scored_word[scored]] = predictions[scored]
        return words


def encode_words(tokenizer, words, tags, label2id, max_length, stride, label_all_tokens=False):
    """Encode sentences for token classification.

    words, tags: for each sentence its words and their tags.
    max_length: the longest row in tokens. stride: the overlap, in tokens, of the rows of a longer
    sentence; 0 cuts it off instead, as run_ner.py does.
    label_all_tokens: label the later pieces of a word too, a B- as I-, as run_ner.py does.
    """
    sentence_offsets = offsets_of([len(sentence) for sentence in words])
    ids, types, word_of, is_first = [], [], [], []
    num_long, is_cut = 0, np.zeros(sentence_offsets[-1], dtype=bool)
    for sentence, windows in enumerate(_windows(tokenizer, words, max_length, stride)):
        first_word, end_word = sentence_offsets[sentence : sentence + 2]
        for window, (word, first) in zip(windows, _owned_words(windows, stride), strict=True):
            ids.append(window.ids)
            types.append(window.type_ids)
            word_of.append(np.where(word >= 0, word + first_word, -1))
            is_first.append(first)
        if len(windows) > 1 or windows[0].overflowing:
            num_long += 1
            if not stride:
                is_cut[first_word + 1 + word.max(initial=-1) : end_word] = True

    word_of, is_first = np.concatenate(word_of), np.concatenate(is_first)
    gold = np.array([label2id[tag] for sentence in tags for tag in sentence], dtype=np.int64)
    labels = np.where(is_first, gold[word_of], IGNORED)
    if label_all_tokens:
        inside = np.array([label2id.get(_inside(tag), label2id[tag]) for tag in label2id])
        labels = np.where((word_of >= 0) & ~is_first, inside[gold[word_of]], labels)
    values = {"input_ids": np.concatenate(ids).astype(np.int32), "labels": labels}
    if np.concatenate(types).any():  # all 0 is what every model assumes by itself
        values["token_type_ids"] = np.concatenate(types)
    begins_entity = np.array([tag.startswith("B-") for sentence in tags for tag in sentence], bool)
    has_pieces = np.zeros(len(gold), dtype=bool)
    has_pieces[word_of[is_first]] = True
    return EncodedWords(
        columns=Columns(values, offsets_of([len(row) for row in ids])),
        scored_word=np.where(is_first, word_of, -1)[labels != IGNORED],
        gold=gold,
        sentence_offsets=sentence_offsets,
        num_long=num_long,
        num_cut=int(is_cut.sum()),
        num_cut_entities=int((is_cut & begins_entity).sum()),
        num_without_pieces=int((~has_pieces & ~is_cut).sum()),
    )


def splits_words_like_text(tokenizer):
    """Whether words given one by one become the sub-words they would become within a text.

    A byte-level tokenizer that marks a word by the blank before it (RoBERTa, ModernBERT) fails
    this unless it was loaded with add_prefix_space=True. Tried out, because a list of names rots.
    """
    words = ["Jeff", "lives", "in", "California"]
    try:
        apart = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    except (AssertionError, ValueError):  # some classes refuse words outright
        return False
    together = tokenizer(" ".join(words), add_special_tokens=False)
    # all but the first word: a text may begin without a blank
    num_pieces = sum(word > 0 for word in apart.word_ids())
    return apart["input_ids"][-num_pieces:] == together["input_ids"][-num_pieces:]


def _inside(tag):
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag


def _windows(tokenizer, words, max_length, stride):
    """For each sentence the encodings of its windows, or the one encoding of its beginning."""
    if stride and tokenizer.truncation_side != "right":
        tokenizer = copy.deepcopy(tokenizer)  # windows are laid out from the left
        tokenizer.truncation_side = "right"
    for start in range(0, len(words), CHUNK):
        encoded = tokenizer(
            words[start : start + CHUNK],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            stride=stride,
        )
        for encoding in encoded.encodings:
            yield [encoding, *encoding.overflowing] if stride else [encoding]


def _owned_words(windows, stride):
    """For each window of a sentence two arrays [T]: the word of a token, and if it is its first.

    The word is -1 for special tokens and for words that another window owns: the one in which the
    first piece of the word stands farther from a border that is not the sentence's own.
    """
    word_ids = [
        np.array([-1 if word is None else word for word in window.word_ids]) for window in windows
    ]
    texts = [np.flatnonzero(ids >= 0) for ids in word_ids]  # where no special token stands
    starts = np.cumsum([0] + [len(text) - stride for text in texts[:-1]])
    num_pieces = starts[-1] + len(texts[-1])
    word = np.empty(num_pieces, dtype=np.int64)  # of each sub-word of the whole sentence
    owner, best_context = np.zeros(num_pieces, dtype=np.int64), np.full(num_pieces, -1)
    for number, (ids, text, start) in enumerate(zip(word_ids, texts, starts, strict=True)):
        piece = slice(start, start + len(text))
        word[piece] = ids[text]
        before = np.arange(len(text)) if number else num_pieces
        after = np.arange(len(text))[::-1] if number < len(windows) - 1 else num_pieces
        context = np.broadcast_to(np.minimum(before, after), len(text))
        better = context > best_context[piece]
        owner[piece][better], best_context[piece][better] = number, context[better]
    first = np.diff(word, prepend=-1) != 0
    owner = owner[np.maximum.accumulate(np.where(first, np.arange(num_pieces), 0))]

    owned = []
    for number, (ids, text, start) in enumerate(zip(word_ids, texts, starts, strict=True)):
        piece = slice(start, start + len(text))
        is_mine = owner[piece] == number
        ids[text] = np.where(is_mine, word[piece], -1)
        is_first = np.zeros(len(ids), dtype=bool)
        is_first[text] = is_mine & first[piece]
        owned.append((ids, is_first))
    return owned
