"""The picture of a confusion: which types of entities are taken for which, missed or made up."""

from pathlib import Path

import numpy as np

from rawtrain.results.errors_by_kind import BOUNDARY, MISSED, SPURIOUS, Confusion
from rawtrain.results.plots import save_png
from rawtrain.results.tables import shortened

CELL_INCHES = (0.72, 0.5)
LONGEST_INCHES = 60  # of a side; with more types than fit, the cells get smaller
LONGEST_NAME = 24


def save_confusion_plot(confusion: Confusion, title: str, path: str | Path) -> None:
    """Write the picture as a PNG; a share is that of its row."""
    save_png(confusion_figure(confusion, title), path, bbox_inches="tight")


def confusion_figure(confusion: Confusion, title: str):
    """The picture as a matplotlib Figure, to show in a notebook or to change."""
    from matplotlib.figure import Figure  # here because it takes a second

    counts = confusion.counts
    num_rows, num_columns = counts.shape
    scale = min(1.0, LONGEST_INCHES / (num_columns * CELL_INCHES[0]))
    width, height = (scale * inches for inches in CELL_INCHES)
    figure = Figure(figsize=(num_columns * width, num_rows * height))
    axes = figure.add_axes((0, 0, 1, 1))  # the names are outside; the file is cut around all of it
    shares = row_shares(counts)
    is_right = np.eye(num_rows, num_columns, dtype=bool)
    is_right[-1] = False
    _shade(axes, np.where(is_right, shares, np.nan), "Blues")
    is_wrong = ~is_right & (counts > 0)
    _shade(axes, np.where(is_wrong, np.sqrt(shares), np.nan), "Oranges")  # shows few errors too
    _write_counts(axes, counts, shares, is_right, 9 * scale)
    _write_names(axes, confusion.types, 10 * scale)
    axes.invert_yaxis()
    axes.axvline(num_columns - 2, color="#444444", linewidth=1)
    axes.axhline(num_rows - 1, color="#444444", linewidth=1)
    nothing = "" if confusion.types else "\nno entity in the gold data, and none predicted"
    axes.set(ylabel="gold", xlabel=f"predicted{nothing}")
    axes.set_title(title, loc="left", size=11)
    return figure


def _write_counts(axes, counts, shares, is_right, size):
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{count:,}\n{percent(shares[row, column])}",
                size=size,
                linespacing=1.25,
                ha="center",
                va="center",
                color="white" if is_right[row, column] and shares[row, column] > 0.6 else "black",
            )


def _write_names(axes, types, size):
    names = [shortened(name, LONGEST_NAME) for name in types]
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(len(names) + 2) + 0.5, [*names, BOUNDARY, MISSED], rotation=45)
    axes.set_yticks(np.arange(len(names) + 1) + 0.5, [*names, SPURIOUS])
    for label in axes.get_xticklabels():
        label.set(ha="left", rotation_mode="anchor")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a type may have a $ in its name
    for label in (*axes.get_xticklabels()[-2:], axes.get_yticklabels()[-1]):
        label.set_style("italic")  # these are no types, though a type may have such a name
    axes.tick_params(length=0, labelsize=size)


def _shade(axes, values, colors):
    axes.pcolormesh(values, cmap=colors, vmin=0, vmax=1.3, edgecolors="#dddddd", linewidth=0.5)


def row_shares(counts: np.ndarray) -> np.ndarray:
    """The share of each count in its row; 0 in a row of nothing."""
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def percent(share: float) -> str:
    """A share for a narrow cell.

    >>> percent(0.934), percent(0.0004), percent(0.9996), percent(1)
    ('93 %', '<1 %', '>99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"
