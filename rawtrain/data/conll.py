"""CoNLL files: one word a line, its tag in another column, a blank line after each sentence.

    -DOCSTART- -X- O O          a new document: no word, but it ends a sentence

    # newswire, 1996            a comment
    EU      NNP  I-NP  B-ORG
    rejects VBZ  I-VP  O

Columns are separated by spaces or tabs, as many as there are, and by nothing else: a word may hold
a no-break space. Only LF, CRLF and CR end a line.

A line that starts with # is a comment, unless it has as many columns as the other lines and a tag
in its tag column: a tag that other lines have too, one of the form O or B-PER, or #, the Penn
Treebank's tag of this word. So "#MeToo B-MISC" is a word, and "# sent_id = 12" is a comment even in
a file of four columns.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rawtrain.data.files import iterate_lines
from rawtrain.data.tags import IOB_TAG, TaggedSentences
from rawtrain.errors import raise_problems

OTHER_FORMATS = (".json", ".jsonl", ".csv", ".parquet")
DOCUMENT = "-DOCSTART-"
COLUMN = re.compile(r"[^ \t]+")


class Line(NamedTuple):
    number: int  # from 1
    text: str
    kind: str  # "word", "break" (blank or -DOCSTART-) or "comment"
    word: str = ""
    tag: str = ""


def is_conll(path: str | Path) -> bool:
    """Whether a file is read as CoNLL columns: if its name does not say another format."""
    return Path(path).suffix.lower() not in OTHER_FORMATS


def read_conll(path: str | Path, token_column: int = 0, tag_column: int = -1) -> TaggedSentences:
    """The sentences of a CoNLL file. Columns count from 0, negative ones from the end."""
    sentences: list[list[Line]] = [[]]
    for line in classify(path, token_column, tag_column):
        if line.kind == "word":
            sentences[-1].append(line)
        elif line.kind == "break" and sentences[-1]:
            sentences.append([])
    if not sentences[-1]:
        del sentences[-1]
    words = [[line.word for line in sentence] for sentence in sentences]
    tags = [[line.tag for line in sentence] for sentence in sentences]
    lines = [[line.number for line in sentence] for sentence in sentences]
    return TaggedSentences(words, tags, lines, str(path))


def classify(path: str | Path, token_column: int, tag_column: int) -> Iterator[Line]:
    """Every line with its kind. All lines that cannot be read are raised together at the end."""
    texts = list(iterate_lines(path))
    rows = [COLUMN.findall(text) for text in texts]
    sure = [row for row in rows if row and row[0][0] != "#" and row[0] != DOCUMENT]
    if not sure:
        raise ValueError(f"{path}: no sentence in this file; expected a word and a tag a line")
    width, word_at, tag_at = _layout(
        sure, f"{path}:{rows.index(sure[0]) + 1}", token_column, tag_column
    )
    known_tags = {row[tag_at] for row in sure if len(row) == width} | {"#"}
    problems = []
    for number, (text, row) in enumerate(zip(texts, rows, strict=True), start=1):
        if not row or row[0] == DOCUMENT:
            yield Line(number, text, "break")
        elif row[0][0] == "#" and not (
            len(row) == width and (row[tag_at] in known_tags or IOB_TAG.fullmatch(row[tag_at]))
        ):
            yield Line(number, text, "comment")
        elif len(row) != width:
            problems.append(
                f"{path}:{number}: number of columns: {len(row)}, on other lines {width}"
            )
        else:
            yield Line(number, text, "word", row[word_at], row[tag_at])
    raise_problems(
        problems,
        "Every word has a line of its own with the same columns, separated by spaces or tabs; "
        "a word cannot hold a space.",
    )


def _layout(rows, place: str, token_column: int, tag_column: int) -> tuple[int, int, int]:
    """The number of columns, and the indices of those of the word and of the tag."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    needed = max(token_column, ~token_column, tag_column, ~tag_column) + 1  # -2 needs ~(-2) + 1
    if width < needed or token_column % width == tag_column % width:
        raise ValueError(
            f"{place}: number of columns, separated by spaces or tabs: {width}; expected the word "
            f"in column {token_column} and its tag in column {tag_column} (from 0, negative from "
            "the end); choose them with --token_column and --tag_column"
        )
    return width, token_column % width, tag_column % width
