"""CoNLL files: one word a line, its tag in another column, a blank line after each sentence.

    -DOCSTART- -X- O O          a new document: no word, but it ends a sentence

    # newswire, 1996            a comment
    EU      NNP  I-NP  B-ORG
    rejects VBZ  I-VP  O

Columns are separated by spaces or tabs, as many as there are. Where all lines have as many tabs,
tabs alone separate: a word may hold a space, and an empty cell keeps its place. No-break spaces and
U+2028 separate nothing.

A line that starts with # is a comment, unless it has as many columns as the other lines and a tag
in its tag column: one that other lines have, or a hashtag after another word or before a tab; one
of the form O or B-PER; or #, the Penn Treebank's tag of this word. So "#MeToo B-MISC" is a word,
and "# sent_id = 12" is a comment even in a file of four columns.

Columns have names below a header, and in CoNLL-U and CoNLL-U Plus ("# global.columns = ...").
"""

import logging
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from rawtrain.data.files import iterate_lines, kind_of
from rawtrain.data.schemes import IOB_TAG
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

logger = logging.getLogger(__name__)

Column = int | str

DOCUMENT = "-DOCSTART-"
CELL = re.compile(r"[^ \t]+")
CONLLU = ["ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC"]
NO_WORD = re.compile(r"\d+[-.]\d+")  # in CoNLL-U, the ID of a range (1-2) or an empty node (3.1)
HEADER = re.compile("tokens?|words?|form|tags?|labels?|ner|ner_tags?", re.IGNORECASE)
HASHTAG = re.compile(r"#[^\s#]\S*")
JOINED = {"SpaceAfter=No", "NoSpaceAfter"}  # CoNLL-U and HIPE: no blank follows the word


def read_conll(
    path: str | Path, token_column: Column = 0, tag_column: Column = -1, encoding: str = "utf-8"
) -> TaggedSentences:
    """The sentences of a CoNLL file.

    Columns have numbers from 0, negative ones from the end, or names. The tag in "MISC:name" is
    what follows "name=" in the column MISC, O if nothing does.
    """
    left_out: Counter[str] = Counter()
    rows, by_tabs = _cells(list(iterate_lines(path, encoding, left_out)))
    plain = [row for row in rows if row and not row[0].startswith(("#", DOCUMENT))]
    if not plain:
        raise ValueError(f"{path}: no sentence in this file; expected a word and a tag a line")
    place = f"{path}:{rows.index(plain[0]) + 1}"
    if all("|" in cell for cell in plain[0]):
        raise ValueError(
            f"{place}: words are joined to their tags by |, a sentence a line; expected a line a "
            f"word: sed 's/$/\\n/' {path} | tr ' |' '\\n\\t'"
        )
    names = _names(path, rows, plain, {token_column, str(tag_column).partition(":")[0]})
    width = Counter(map(len, plain)).most_common(1)[0][0]
    token, tag_of = _columns(place, plain, width, names, token_column, tag_column)
    known_tags = {tag_of(row) for row in plain if len(row) == width} | {"#"}
    for before, row in pairwise([[], *rows]):
        is_inside = len(before) == width and before[0][:1] != "#"
        if len(row) == width and HASHTAG.fullmatch(row[0]) and (by_tabs or is_inside):
            known_tags.add(tag_of(row))
    sentences: list[list[tuple]] = [[]]
    problems = []
    for number, row in enumerate(rows, start=1):
        tag = tag_of(row) if len(row) == width else None
        if not row or row[0].startswith(DOCUMENT):
            sentences.append([])
        elif row[0][:1] == "#" and tag not in known_tags and not IOB_TAG.fullmatch(tag or ""):
            left_out["comment lines"] += 1
        elif names[:1] == ["ID"] and NO_WORD.fullmatch(row[0]):
            left_out["ranges and empty nodes"] += 1
        elif tag is None or not row[token]:
            problems.append(f"{path}:{number}: {_problem(row, width)}")
        else:
            is_joined = not JOINED.isdisjoint("|".join(row).split("|"))
            sentences[-1].append((row[token], tag, number, is_joined))
    raise_problems(
        problems,
        "Every word has a line of its own with the same columns, separated by spaces or tabs; a "
        "word can hold a space only where tabs separate the columns of every line.",
    )
    words, tags, lines, joined = ([[w[n] for w in s] for s in sentences if s] for n in range(4))
    longest = max(map(len, words))
    if longest > 1000:
        logger.warning(f"{path}: a sentence has {longest:,} words: are blank lines missing?")
    known = joined if any(map(any, joined)) else None
    return TaggedSentences(words, tags, lines, str(path), left_out=left_out, joined=known)


def _cells(lines):
    """The cells of each line, none of a blank one, and whether tabs alone separate them."""
    plain = [line for line in lines if line.strip(" \t") and not line.startswith(("#", DOCUMENT))]
    empty = "\t" * min((len(line) - len(line.rstrip("\t")) for line in plain), default=0)
    num_tabs = {line.removesuffix(empty).count("\t") for line in plain}
    num_columns = {len(CELL.findall(line)) for line in plain}
    if 0 in num_tabs or (len(num_tabs) > 1 and len(num_columns) == 1):
        return [CELL.findall(line) for line in lines], False
    by_tabs = (line.removesuffix(empty).split("\t") if line.strip(" \t") else [] for line in lines)
    return [[cell.strip(" ") or cell for cell in cells] for cells in by_tabs], True


def _names(path, rows, plain, asked):
    """The names of the columns, if they have any. A header is taken out of the rows."""
    declared = " ".join(rows[0]).partition("# global.columns =")[2].split()
    if declared:
        return declared
    first, *others = plain
    recurs = any(a == b for row in others for a, b in zip(first, row, strict=False))
    if (
        others
        and len(first) > 1
        and (asked & set(first) or (any(map(HEADER.fullmatch, first)) and not recurs))
    ):
        logger.info(f"{path}: the first line is a header: {', '.join(first)}")
        rows[rows.index(first)] = []
        return plain.pop(0)
    is_conllu = kind_of(path) == ".conllu" or all(re.match(r"\d", row[0]) for row in plain)
    return CONLLU if is_conllu and len(first) == len(CONLLU) else []


def _columns(place, plain, width, names, token_column, tag_column):
    """The number of the column of words, and the function that gives the tag of a row."""
    if width == 1 and (token_column, tag_column) == (0, -1):
        return 0, lambda row: "_"  # words alone
    key = ""
    if isinstance(tag_column, str) and tag_column not in names:
        tag_column, _, key = tag_column.partition(":")
    if names == CONLLU and token_column == 0:
        token_column = "FORM"  # ID is no word
    try:
        asked = (c if isinstance(c, int) else names.index(c) for c in (token_column, tag_column))
        token, tag = (range(width)[column] for column in asked)
    except (IndexError, ValueError):
        token = tag = None
    if token == tag:
        named = f"; they are named {', '.join(names)}" if names else ""
        raise ValueError(
            f"{place}: number of columns, separated by spaces or tabs: {width}{named}; expected "
            f"the word in column {token_column} and its tag in column {tag_column} (from 0, "
            "negative from the end); choose them with --token_column and --tag_column"
        )
    if key and not any(f"{key}=" in row[tag] for row in plain if len(row) == width):
        raise ValueError(f"{place}: column {tag_column} has no {key}= anywhere in this file")

    def tag_of(row):
        if not key:
            return row[tag]
        return dict(part.partition("=")[::2] for part in row[tag].split("|")).get(key, "O")

    return token, tag_of


def _problem(row, width):
    if len(row) > width and IOB_TAG.fullmatch(row[width - 1]) and row[width - 1] != "O":
        return f"the tag {' '.join(row[width - 1 :])!r} holds a space; write _ for it"
    if len(row) == width:
        return "the cell of the word is empty"
    return f"number of columns: {len(row)}, on other lines {width}"
