"""predictions.conll: each word of the test data with its gold tag and the predicted one."""

import re
from collections.abc import Sequence
from pathlib import Path

from rawtrain.run.durable import write_text

GAP = re.compile(r"[ \t\r\n]+")


def write_predictions(
    path: str | Path,
    sentences: Sequence[Sequence[str]],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
) -> None:
    """Write a line "word TAB gold TAB predicted" for each word, a blank line after each sentence.

    CoNLL cannot hold a blank in a word or an empty word: both are written as _.
    """
    lines = []
    for sentence in zip(sentences, gold, predicted, strict=True):
        for word, *tags in zip(*sentence, strict=True):
            lines.append("\t".join([GAP.sub("_", word) or "_", *tags]) + "\n")
        lines.append("\n")
    write_text(Path(path), "".join(lines))
