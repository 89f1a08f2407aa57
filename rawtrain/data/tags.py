"""Sentences with tags, and their conversion to IOB2: all other modules see only that."""

import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rawtrain.data.files import sha256_of
from rawtrain.data.schemes import SCHEMES, breaks, detect_scheme, find_notation, read_tags, to_iob2
from rawtrain.errors import raise_problems

MOST_TYPES = 200  # written without a letter: a column of words or links has more


@dataclass(frozen=True)
class TaggedSentences:
    """Words, the tag of each word, and the line that each word was read from."""

    words: list[list[str]]
    tags: list[list[str]]
    lines: list[list[int]]  # of each word, from 1; rows where the source has no lines
    source: str
    at: str = ":"  # between source and line: "train.conll:7", "train.parquet, row 7"
    left_out: dict[str, int] = field(default_factory=dict)  # {"comment lines": 3}, by the reader
    label_names: list[str] | None = None  # the names that the data declares, in its order
    joined: list[list[bool]] | None = None  # whether the text has no blank after a word, if known

    @property
    def fingerprint(self) -> str:
        """A hash of the words and tags; it does not depend on where they were read."""
        return sha256_of(json.dumps([self.words, self.tags]))

    @property
    def gold_tags(self) -> list[list[str]]:
        """The tags; none where all are _, which are predicted and not scored."""
        return self.tags if any(tag != "_" for tags in self.tags for tag in tags) else []

    def place(self, sentence: int, word: int) -> str:
        """Where a word was read: "train.conll:7"."""
        return f"{self.source}{self.at}{self.lines[sentence][word]}"


@dataclass(frozen=True)
class TaggedCorpus:
    """The splits that there are, with IOB2 tags, and the labels for a model to predict."""

    splits: dict[str, TaggedSentences]  # keys: "train", "validation", "test"
    label_names: list[str]
    scheme: str  # as found: "IOB1", "BMES", "IOB2 written b-per"; "none" for part of speech
    num_repaired: int  # tags that could not follow the one before them


def unify(
    splits: Mapping[str, TaggedSentences], repair_tags: bool = False
) -> tuple[dict[str, TaggedSentences], str, int]:
    """The splits with IOB2 tags, the scheme that was found, and the number of repaired tags.

    The first split decides the scheme. Either all splits are IOBES or none is; IOB1 and IOB2, which
    a short split may not tell apart, are read by one rule. A repaired tag is an I- that continues
    no entity in IOB2: it is read as B-, as by conlleval and seqeval. `repair_tags`: and any other
    that cannot follow the tag before it.
    """
    notation = check_tags(splits.values())
    unified, scheme, num_repaired = {}, "", 0
    for name, split in splits.items():
        tag_sequences = [read_tags(tags, notation) for tags in split.tags]
        found = "IOBES" if notation == "(PER*" else detect_scheme(tag_sequences)
        scheme = scheme or found
        has_entities = any(tag != "O" for tags in tag_sequences for tag in tags)
        if has_entities and (found in SCHEMES) != (scheme in SCHEMES):
            first, *_ = splits.values()
            raise ValueError(
                f"{split.source} has {found} tags, but {first.source} has {scheme} tags; "
                "write both in one scheme, IOB2 for instance"
            )
        broken = [*breaks(tag_sequences, found)]
        if found not in ("IOB1", "IOB2") and not repair_tags:
            raise_problems(
                [f"{split.place(sentence, word)}: {what}" for sentence, word, what in broken],
                f"The tags are {found}. An entity of several words begins with B- and ends with E- "
                f"(L-) in {', '.join(SCHEMES)}; each begins with B- in IOB2, and with I- in IOB1. "
                "Correct them, or add --repair_tags to begin one wherever none can continue.",
            )
        num_repaired += len(broken)
        unified[name] = replace(split, tags=[to_iob2(tags) for tags in tag_sequences])
    names = {"B-PER": scheme, "PER": "IO", "(PER*": "OntoNotes brackets"}
    name = names.get(notation, f"{scheme} written {notation}")
    return unified, name, 0 if scheme == "IOB1" else num_repaired


def check_tags(splits: Iterable[TaggedSentences]) -> str:
    """The notation of the tags. Others are refused, each with its first place and its count."""
    counts = Counter(tag for split in splits for tags in split.tags for tag in tags)
    notation, misfits = find_notation(counts)
    if notation == "PER":  # or a column of something else, which has other proportions
        num_outside = counts.pop("O")
        most_types = max(5, min(MOST_TYPES, counts.total() // 2))
        has_pairs = any(f"B{tag[1:]}" in counts for tag in counts if tag[0] == "I")  # BPER, IPER
        if num_outside <= max(counts.values()) or len(counts) > most_types or has_pairs:
            misfits = set(counts)
    raise_problems(
        [
            f"{split.place(sentence, word)}: the tag {reprlib.repr(tag)} is not an IOB tag"
            for split in splits
            for sentence, tags in enumerate(split.tags)
            for word, tag in enumerate(tags)
            if tag in misfits
        ],
        f"Expected O and tags that are all written like {notation}. If this is the wrong column, "
        "choose another with --tag_column or --label_column_name; for part-of-speech tags there is "
        "--task_name pos. Types without B- and I- are read too, if O is the most frequent tag and "
        f"there are few of them, {MOST_TYPES} at most.",
    )
    return notation


def label_list(tag_sequences: Iterable[Sequence[str]]) -> list[str]:
    """The tags that occur, sorted."""
    return sorted({tag for tags in tag_sequences for tag in tags})
