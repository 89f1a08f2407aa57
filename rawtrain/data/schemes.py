"""How tags are written, and in which scheme; all become IOB2.

In each of these schemes, "New York" and "Boston" are two entities next to each other:

    word    IOB1    IOB2    IOBES   BILOU   BMES    BMEWO
    New     I-LOC   B-LOC   B-LOC   B-LOC   B-LOC   B-LOC
    York    I-LOC   I-LOC   E-LOC   L-LOC   E-LOC   E-LOC
    Boston  B-LOC   B-LOC   S-LOC   U-LOC   S-LOC   W-LOC

The last four are one scheme: M is I, L is E, and U and W are S. IO has types alone, and takes the
three words for one entity.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

SCHEMES = {"IOBES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
# How a tag in an entity is written. The type of a bare B is "_", as in seqeval.
LETTERED = {
    "B-PER": "(?P<letter>[BIESLUMW])-(?P<type>.+)",
    "B_PER": "(?P<letter>[BIESLUMW])[_:./–‑](?P<type>.+)",
    "PER-B": "(?P<type>.+)[-_:./–‑](?P<letter>[BIESLUMW])",
    "B": "(?P<letter>[BIESLUMW])(?P<type>)",
}
NOTATIONS = {name: f"O|{tag}" for name, tag in LETTERED.items()} | {
    name.lower(): f"[Oo]|{tag.replace('BIESLUMW', 'bieslumw')}" for name, tag in LETTERED.items()
}
NOTATIONS["(PER*"] = r"(?=[(*])(\((?P<type>[^()*]+))?\*?(?P<end>\))?"  # OntoNotes: (PER* *) * (LOC)
NOTATIONS["PER"] = r"O|(?P<type>(?!.[-_]|[Bb]egin|[Ii]nside)[^\W\d_].*)"
# Several tags in one, and characters that nobody sees: "B-PER" and "B-PER\u200b" look alike.
NO_TAG = re.compile(r"^\s|\s$|[\u200b-\u200f\ufeff]|[|,;\s\x00-\x1f]([BIESLUMW]-|O$)")
IOB_TAG = re.compile(NOTATIONS["B-PER"], re.DOTALL)
NO_WORDS = re.compile(r"X|PAD|\[.+\]|<.+>")  # labels that some models have for special tokens


def find_notation(counts: Counter[str]) -> tuple[str, set[str]]:
    """How most of these tags are written, and those that are not written so.

    >>> find_notation(Counter(["O", "B_PER", "I_PER", "PER"]))
    ('B_PER', {'PER'})
    """
    misfits = {
        name: {t for t in counts if NO_TAG.search(t) or not re.fullmatch(pattern, t, re.DOTALL)}
        for name, pattern in NOTATIONS.items()
    }

    def num_fitting(name):
        return sum(n for tag, n in counts.items() if tag not in {*misfits[name], "O", "o", "*"})

    *others, types = NOTATIONS
    notation = max(others, key=num_fitting)  # of equal ones the first
    if misfits[notation] and not num_fitting(notation) and "O" in counts and not misfits[types]:
        notation = types
    return notation, misfits[notation]


def read_tags(tags: Sequence[str], notation: str) -> list[str]:
    """The tags of a sentence, each as O, or a letter, a hyphen and a type.

    >>> read_tags(["(PER*", "*)", "*", "(LOC)"], "(PER*")
    ['B-PER', 'E-PER', 'O', 'S-LOC']
    """
    if notation == "B-PER":
        return list(tags)
    read, inside = [], None
    for tag in tags:
        found = re.fullmatch(NOTATIONS[notation], tag, re.DOTALL)
        part = found.groupdict() if found else {}
        kind, letter = part.get("type"), part.get("letter", "I")
        if "end" in part:
            letter = "BSIE"[2 * (not kind) + bool(part["end"])]
            kind = kind or inside or (part["end"] and "?")  # a bracket that closes nothing
            inside = None if part["end"] else kind
        read.append("O" if kind is None else f"{letter.upper()}-{kind or '_'}")
    return read


def detect_scheme(tag_sequences: Sequence[Sequence[str]]) -> str:
    """Which scheme it is. IOBES and its relatives have letters of their own.

    IOB1 and IOB2 differ in entities that follow no entity of their type: IOB1 begins them with I-,
    IOB2 with B-. If both occur, a minority of I- counts as slips in IOB2.

    >>> detect_scheme([["O", "I-PER", "B-PER"]])
    'IOB1'
    """
    letters = {tag[0] for tags in tag_sequences for tag in tags} - {"O"}
    if letters - {"B", "I"}:
        return next((name for name in SCHEMES if letters <= set(SCHEMES[name])), "IOBES")
    num_i = sum(1 for _ in breaks(tag_sequences))
    pairs = (pair for tags in tag_sequences for pair in pairwise(["O", *tags]))
    num_b = sum(tag[0] == "B" and tag[2:] != before[2:] for before, tag in pairs)
    if num_b and num_i > num_b:
        return "neither IOB1 nor IOB2"
    return "IOB1" if num_i and not num_b else "IOB2"


def breaks(
    tag_sequences: Iterable[Sequence[str]], scheme: str = "IOB2"
) -> Iterator[tuple[int, int, str]]:
    """Yield sentence, word and what follows what, where the scheme is broken.

    In IOB2 an I- needs an entity of its type before it. In IOBES and its relatives an entity that
    was opened must be closed, too.
    """
    for sentence, tags in enumerate(tag_sequences):
        for word, (before, tag) in enumerate(pairwise(["O", *tags, "O (the end of the sentence)"])):
            continues, is_open = tag[0] in "IMEL", before[0] in "BIM"
            is_alien = continues and tag[2:] != before[2:]
            if is_alien or (scheme in SCHEMES and continues != is_open):
                yield sentence, min(word, len(tags) - 1), f"{tag} follows {before}"


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same entities in IOB2.

    One rule reads every scheme, as seqeval does: an entity begins with B, S, U and W, where the
    type differs from that of the tag before, and after a tag that ends one (E, L, S, U, W).

    >>> to_iob2(["I-LOC", "I-LOC", "B-LOC", "O"])
    ['B-LOC', 'I-LOC', 'B-LOC', 'O']
    """
    iob2 = []
    for before, tag in pairwise(["O", *tags]):
        begins = tag[0] in "BSUW" or tag[2:] != before[2:] or before[0] in "ELSUW"
        iob2.append("O" if tag == "O" else f"{'B' if begins else 'I'}-{tag[2:]}")
    return iob2


def iob2_labels(names: Sequence[str], model: str) -> list[str]:
    """What each label of a model says in IOB2; those of special tokens say O.

    Raises ValueError if the labels mark no entities.
    """
    notation, misfits = find_notation(Counter(n for n in names if not NO_WORDS.fullmatch(n)))
    if misfits:
        raise ValueError(
            f"{model}: its labels, such as {min(misfits)!r}, mark no entities; expected O, "
            f"B-TYPE and I-TYPE. Name a model that rawtrain.ner trained to find names"
        )
    tags = read_tags(["O" if NO_WORDS.fullmatch(name) else name for name in names], notation)
    return [f"{'B' if tag[0] in 'BSUW' else 'I'}-{tag[2:]}" if tag != "O" else "O" for tag in tags]
