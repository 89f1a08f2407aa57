"""Sentences with tags: the scheme of the tags is found, and they are converted to IOB2.

In each of four schemes, "New York" and "Boston" are two entities next to each other:

    word    IOB1    IOB2    IOBES   BILOU
    New     I-LOC   B-LOC   B-LOC   B-LOC
    York    I-LOC   I-LOC   E-LOC   L-LOC
    Boston  B-LOC   B-LOC   S-LOC   U-LOC

BILOU is IOBES with L for E and U for S, and is called IOBES here. All other modules see only IOB2.
"""

import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from rawtrain.data.files import sha256_of
from rawtrain.errors import raise_problems

IOB_TAG = re.compile(r"O|[BIESLU]-.+", re.DOTALL)


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

    def place(self, sentence: int, word: int) -> str:
        """Where a word was read: "train.conll:7"."""
        return f"{self.source}{self.at}{self.lines[sentence][word]}"


def unify(splits: Mapping[str, TaggedSentences]) -> tuple[dict[str, TaggedSentences], str, int]:
    """The splits with IOB2 tags, the scheme that was found, and the number of repaired tags.

    The first split decides the scheme. Either all splits are IOBES or none is; IOB1 and IOB2, which
    a short split may not tell apart, are read by one rule. A repaired tag is an I- that continues
    no entity in IOB2: it is read as B-, as by conlleval and seqeval.
    """
    check_tags(splits.values())
    first, *_ = splits.values()
    scheme = detect_scheme(first.tags, first.place)
    for split in splits.values():
        found = detect_scheme(split.tags, split.place)
        has_entities = any(tag != "O" for tags in split.tags for tag in tags)
        if has_entities and (found == "IOBES") != (scheme == "IOBES"):
            raise ValueError(
                f"{split.source} has {found} tags, but {first.source} has {scheme} tags; "
                "write both in one scheme, IOB2 for instance"
            )
    unified, num_changed = {}, 0
    for name, split in splits.items():
        unified[name] = replace(split, tags=[to_iob2(tags) for tags in split.tags])
        pairs = zip(chain(*split.tags), chain(*unified[name].tags), strict=True)
        num_changed += sum(old != new for old, new in pairs)
    return unified, scheme, num_changed if scheme == "IOB2" else 0


def check_tags(splits: Iterable[TaggedSentences]) -> None:
    """Refuse tags of no scheme; each is reported once, with its first place and its count."""
    raise_problems(
        [
            f"{_first_place(split, tag)}: the tag {reprlib.repr(tag)} is not an IOB tag ({n} times)"
            for split in splits
            for tag, n in Counter(chain(*split.tags)).items()
            if not IOB_TAG.fullmatch(tag)
        ],
        "Expected O, or a letter B, I, E, S, L or U, a hyphen and a type: B-PER. If this is the "
        "wrong column, choose another; for part-of-speech tags there is --task_name pos.",
    )


def detect_scheme(
    tag_sequences: Sequence[Sequence[str]],
    place: Callable[[int, int], str] = lambda s, w: f"sentence {s + 1}, word {w + 1}",
) -> str:
    """Which scheme it is: "IOB1", "IOB2" or "IOBES". ValueError, with places, if none fits.

    E, S, L and U occur only in IOBES, where each entity must be opened and closed. IOB1 and IOB2
    differ in entities that follow no entity of their type: IOB1 begins them with I-, IOB2 with B-.
    If both occur, a minority of I- counts as slips in IOB2.

    >>> detect_scheme([["O", "I-PER", "B-PER"]])
    'IOB1'
    """
    if any(tag[0] in "ESLU" for tags in tag_sequences for tag in tags):
        _check_iobes(tag_sequences, place)
        return "IOBES"
    starts: dict[str, list[tuple[int, int]]] = {"B": [], "I": []}
    for sentence, tags in enumerate(tag_sequences):
        previous = "O"
        for word, tag in enumerate(tags):
            if tag != "O" and tag[2:] != previous[2:]:
                starts[tag[0]].append((sentence, word))
            previous = tag
    with_b, with_i = starts["B"], starts["I"]
    if with_b and len(with_i) > len(with_b):
        raise ValueError(
            f"The tags fit neither IOB1 nor IOB2: of the entities that follow no entity of their "
            f"type, {len(with_i)} begin with I- (first at {place(*with_i[0])}) and {len(with_b)} "
            f"with B- (first at {place(*with_b[0])}); write all of them in one way"
        )
    return "IOB1" if with_i and not with_b else "IOB2"


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities in IOB2.

    One rule reads every scheme: B, S and U begin an entity, and so does a tag whose type differs
    from that of the tag before.

    >>> to_iob2(["I-LOC", "I-LOC", "B-LOC", "O"])
    ['B-LOC', 'I-LOC', 'B-LOC', 'O']
    """
    iob2 = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        begins = tag[0] in "BSU" or tag[2:] != before[2:]
        iob2.append("O" if tag == "O" else f"{'B' if begins else 'I'}-{tag[2:]}")
    return iob2


def label_list(tag_sequences: Iterable[Sequence[str]]) -> list[str]:
    """The tags that occur, sorted."""
    return sorted({tag for tags in tag_sequences for tag in tags})


def check_known(splits: Mapping[str, TaggedSentences], label_names: Sequence[str]) -> None:
    """Refuse tags that are not among the labels: the model could never predict them."""
    problems = [
        f"{_first_place(split, tag)}: the tag {tag!r} of the {name} split is not among the labels"
        for name, split in splits.items()
        for tag in label_list(split.tags)
        if tag not in label_names
    ]
    raise_problems(
        problems,
        f"The labels are those of the training data: {', '.join(label_names)}. Correct the tag, "
        "or add training sentences that have it.",
    )


def _check_iobes(tag_sequences, place):
    problems = []
    for sentence, tags in enumerate(tag_sequences):
        # the end of a sentence closes like an O
        for word, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
            if before[0] in "BI":
                fits = tag[0] in "IEL" and tag[2:] == before[2:]
            else:
                fits = tag[0] in "OBSU"
            if not fits:
                is_end = word == len(tags)
                after = "the end of the sentence" if is_end else repr(tag)
                problems.append(f"{place(sentence, word - is_end)}: {after} follows {before!r}")
    raise_problems(
        problems,
        "The tags have E-, S-, L- or U-, so they should be IOBES (or BILOU), where an entity of "
        "several words begins with B- and ends with E- (L-). Correct them, or write IOB2.",
    )


def _first_place(split: TaggedSentences, wanted: str) -> str:
    return next(
        split.place(s, tags.index(wanted)) for s, tags in enumerate(split.tags) if wanted in tags
    )
