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
from pathlib import Path

from rawtrain.data.files import iterate_lines
from rawtrain.data.tags import IOB_TAG, TaggedSentences
from rawtrain.errors import raise_problems

DOCUMENT = "-DOCSTART-"
COLUMN = re.compile(r"[^ \t]+")


def read_conll(
    path: str | Path, token_column: int = 0, tag_column: int = -1, encoding: str = "utf-8"
) -> TaggedSentences:
    """The sentences of a CoNLL file. Columns count from 0, negative ones from the end."""
    rows = [COLUMN.findall(line) for line in iterate_lines(path, encoding)]
    sure = [row for row in rows if row and row[0][0] != "#" and row[0] != DOCUMENT]
    if not sure:
        raise ValueError(f"{path}: no sentence in this file; expected a word and a tag a line")
    width = Counter(map(len, sure)).most_common(1)[0][0]
    needed = max(token_column, ~token_column, tag_column, ~tag_column) + 1  # -2 needs ~(-2) + 1
    if width < needed or token_column % width == tag_column % width:
        raise ValueError(
            f"{path}:{rows.index(sure[0]) + 1}: number of columns, separated by spaces or tabs: "
            f"{width}; expected the word in column {token_column} and its tag in column "
            f"{tag_column} (from 0, negative from the end); choose them with --token_column and "
            "--tag_column"
        )
    known_tags = {row[tag_column] for row in sure if len(row) == width} | {"#"}
    words, tags, lines, problems = [[]], [[]], [[]], []
    for number, row in enumerate(rows, start=1):
        if not row or row[0] == DOCUMENT:
            for column in (words, tags, lines):
                column.append([])
        elif row[0][0] != "#" and len(row) != width:
            found = f"number of columns: {len(row)}, on other lines {width}"
            problems.append(f"{path}:{number}: {found}")
        elif len(row) == width:
            tag = row[tag_column]
            if row[0][0] != "#" or tag in known_tags or IOB_TAG.fullmatch(tag):
                words[-1].append(row[token_column])
                tags[-1].append(tag)
                lines[-1].append(number)
    raise_problems(
        problems,
        "Every word has a line of its own with the same columns, separated by spaces or tabs; "
        "a word cannot hold a space.",
    )
    words, tags, lines = ([part for part in column if part] for column in (words, tags, lines))
    return TaggedSentences(words, tags, lines, str(path))
