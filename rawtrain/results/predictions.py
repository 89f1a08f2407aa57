"""predictions.conll: each word of the test data with its gold tag and the predicted one."""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rawtrain.data.conll import classify, is_conll
from rawtrain.run.durable import write_text

GAP = re.compile(r"[ \t\r\n]+")


def write_predictions(
    path: str | Path,
    test_file: str | Path | None,
    sentences: Sequence[Sequence[str]],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    token_column: int = 0,
    tag_column: int = -1,
) -> None:
    """Write a line "word TAB gold TAB predicted" for each word of the `sentences`.

    If they are the first sentences of a CoNLL file, its blank lines, comments and -DOCSTART- lines
    are kept in their places. Otherwise a blank line ends each sentence. CoNLL cannot hold a blank
    in a word or an empty word: both are written as _.
    """
    rows = [
        [
            "\t".join([GAP.sub("_", word) or "_", *tags])
            for word, *tags in zip(*sentence, strict=True)
        ]
        for sentence in zip(sentences, gold, predicted, strict=True)
    ]
    if test_file is not None and is_conll(test_file):
        lines = _in_place(rows, sentences, test_file, token_column, tag_column)
    else:
        lines = [line for sentence in rows for line in [*sentence, ""]]
    write_text(Path(path), "".join(line + "\n" for line in lines))


def _in_place(rows, sentences, test_file, token_column, tag_column) -> list[str]:
    """The rows where their words stand in the test file, between its other lines."""
    rows, words = list(chain.from_iterable(rows)), list(chain.from_iterable(sentences))
    lines, num_written, end = [], 0, 0
    for line in classify(test_file, token_column, tag_column):
        if line.kind != "word":
            lines.append(line.text)
        elif num_written == len(rows):
            return lines[: end + 1]  # only the break right after the last row belongs to it
        elif line.word != words[num_written]:
            break
        else:
            lines.append(rows[num_written])
            num_written += 1
            end = len(lines)
    if num_written < len(rows):
        raise ValueError(
            f"{test_file}: no longer has the words that were predicted (the first that differs is "
            f"{words[num_written]!r}); was it changed meanwhile? Put it back and predict again"
        )
    return lines
