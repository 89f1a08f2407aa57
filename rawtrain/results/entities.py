"""Entities in arrays of label ids: where they are, of which type, and which of them are right.

The rules are those of seqeval's default mode: an I- that continues nothing begins an entity.

W words in S sentences, E entities, C labels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rawtrain.errors import listed


@dataclass(frozen=True)
class Entities:
    """The entities of a split in the order of the text; no two of them overlap."""

    types: list[str]  # the names of the types, in alphabetical order
    type: np.ndarray  # [E] numbers in `types`
    first: np.ndarray  # [E] first word
    last: np.ndarray  # [E] last word

    def __len__(self) -> int:
        return len(self.type)

    def spans(self) -> list[tuple[int, int, str]]:
        """The first word, the last word and the type's name of each."""
        names = [self.types[number] for number in self.type]
        return list(zip(self.first.tolist(), self.last.tolist(), names, strict=True))


def find_entities(
    labels: np.ndarray,  # [W]
    label_names: Sequence[str],  # [C]
    sentence_offsets: np.ndarray,  # [S + 1]
) -> Entities:
    """The entities of label ids, one a word, where labels are O, B-TYPE and I-TYPE.

    >>> names, labels = ["O", "B-PER", "I-PER"], np.array([1, 2, 0, 1])
    >>> find_entities(labels, names, sentence_offsets=np.array([0, 3, 4])).spans()
    [(0, 1, 'PER'), (3, 3, 'PER')]
    """
    alien = [name for name in label_names if not re.fullmatch(r"O|[BI](-.+)?", name)]
    if alien:
        raise ValueError(
            f"labels {listed(map(repr, alien))} are none of O, B-TYPE, I-TYPE: convert the"
            " tags to IOB2, or say --task_name pos if every word has a tag of its own"
        )
    _check_ids(labels, label_names)
    assert sentence_offsets[0] == 0 and sentence_offsets[-1] == len(labels)
    # cut at the first hyphen; seqeval calls the type of a bare B or I "_"
    type_names = [None if name == "O" else name[2:] or "_" for name in label_names]
    types = sorted({name for name in type_names if name})
    type_of = np.array([types.index(name) if name else -1 for name in type_names])  # [C]
    is_begin = np.array([name[0] == "B" for name in label_names])  # [C]
    type_of_word = type_of[labels]  # [W]
    continues = np.zeros(len(labels) + 1, bool)  # word i continues the entity of word i - 1
    continues[1:-1] = (type_of_word[1:] == type_of_word[:-1]) & ~is_begin[labels[1:]]
    continues[sentence_offsets] = False
    inside = type_of_word >= 0
    first = np.flatnonzero(inside & ~continues[:-1])
    return Entities(types, type_of_word[first], first, np.flatnonzero(inside & ~continues[1:]))


def continue_over_unseen(
    labels: np.ndarray,  # [W]
    is_unseen: np.ndarray,  # bool [W]
    label_names: Sequence[str],  # [C], with O
    sentence_offsets: np.ndarray,  # [S + 1]
) -> np.ndarray:
    """The labels [W] with those of unseen words set by their neighbours, in gold and prediction.

    Of some words (a blank, U+200B, a control character) the tokenizer makes no sub-word: the model
    sees none of them, and their own tags count for nothing. Between two words of one entity such a
    word continues it; anywhere else it is O. So it never begins or ends an entity, an entity of
    such words alone is not scored, and a perfect model has an F1 of 1.0 on any data.

    >>> names, labels = ["O", "B-PER", "I-PER"], np.array([1, 0, 2, 2])
    >>> continue_over_unseen(labels, labels != [1, 9, 2, 9], names, np.array([0, 4])).tolist()
    [1, 2, 2, 0]
    """
    seen = np.flatnonzero(~is_unseen)
    entities = find_entities(labels[seen], label_names, np.searchsorted(seen, sentence_offsets))
    unseen = np.flatnonzero(is_unseen)
    begun, ended = (np.searchsorted(seen[of], unseen) for of in (entities.first, entities.last))
    within = unseen[begun > ended]  # more entities have begun before this word than ended
    continued = np.where(is_unseen, list(label_names).index("O"), labels)
    continued[within] = labels[seen[np.searchsorted(seen, within)]]  # of the next word
    return continued


def every_word(labels: np.ndarray, label_names: Sequence[str], words: np.ndarray) -> Entities:
    """Each of these words as an entity whose type is its tag, as in part-of-speech tagging."""
    _check_ids(labels, label_names)
    rank = np.argsort(np.argsort(label_names))  # [C]: a label's place in alphabetical order
    return Entities(sorted(label_names), rank[labels[words]], words, words)


def same_borders(gold: Entities, found: Entities) -> np.ndarray:
    """For each gold entity [E] the number of the found one with the same words, or -1."""
    if not len(found):
        return np.full(len(gold), -1)
    number = np.searchsorted(found.first, gold.first).clip(max=len(found) - 1)
    is_same = (found.first[number] == gold.first) & (found.last[number] == gold.last)
    return np.where(is_same, number, -1)


def right_ones(gold: Entities, found: Entities) -> np.ndarray:
    """Whether each gold entity [E] was found, with its first word, its last word and its type."""
    number = same_borders(gold, found)
    is_right = number >= 0
    is_right[is_right] = gold.type[is_right] == found.type[number[is_right]]
    return is_right


def _check_ids(labels, label_names):
    assert labels.ndim == 1
    # numpy would take a -100 for a place from the end of the names
    assert labels.min(initial=0) >= 0 and labels.max(initial=0) < len(label_names)
