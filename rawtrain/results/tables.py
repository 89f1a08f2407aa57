"""Tables of texts, in columns for a terminal and in Markdown.

The first column is aligned to the left, the others to the right.
"""

from collections.abc import Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, with two blanks between its columns.

    >>> print("\\n".join(text_table(["type", "F1"], [["PER", "0.612"], ["all", "0.7"]])))
    type     F1
    PER   0.612
    all     0.7
    """
    return ["  ".join(cells) for cells in _aligned(header, rows)]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table that is also read on a terminal; the cells are Markdown.

    >>> print("\\n".join(markdown_table(["on", "F1"], [["de", "0.612"], ["all", "**0.7**"]])))
    | on  |      F1 |
    |:----|--------:|
    | de  |   0.612 |
    | all | **0.7** |
    """
    titles, *lines = _aligned(header, rows)
    first, *others = ("-" * len(title) for title in titles)
    rule = f"|:-{first}|" + "".join(f"-{dashes}:|" for dashes in others)
    return [_in_bars(titles), rule, *map(_in_bars, lines)]


def _in_bars(cells):
    return f"| {' | '.join(cells)} |"


def _aligned(header, rows) -> list[list[str]]:
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        [f"{row[0]:<{widths[0]}}"]
        + [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        for row in table
    ]
