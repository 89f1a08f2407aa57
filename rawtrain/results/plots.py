"""The pictures of a run's log: loss and F1, learning rate and gradient norm, over the epochs."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rawtrain.run.durable import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"training": "#0072b2", "validation": "#d55e00"}  # distinct for the colour-blind too
ANOTHER_COLOR = "#666666"


@dataclass(frozen=True)
class Panel:
    title: str
    ylabel: str
    lines: dict[str, list[tuple[float, float]]]  # by name, points of (epoch, value)
    number_format: str = ".3f"  # of the value that is written at the end of a line
    ylim: tuple = (None, None)

    @property
    def last_values(self) -> str:
        """The values at the ends of the lines, for a reader who cannot see them."""
        ends = {name: points[-1][1] for name, points in self.lines.items()}
        return ", ".join(f"{name} {value:{self.number_format}}" for name, value in ends.items())


def save_loss_plot(log_history: list[dict], path: str | Path) -> None:
    """Write the picture of a log history with Trainer's keys as a PNG 900 pixels wide."""
    picture = io.BytesIO()
    loss_figure(log_history).savefig(picture, format="png", dpi=100)
    write_bytes(Path(path), picture.getvalue())


def loss_figure(log_history: list[dict]) -> "Figure":
    """All panels as one matplotlib Figure, to show in a notebook or to change."""
    # imported here because it takes a second; no pyplot, which keeps every figure in memory
    from matplotlib.figure import Figure

    panels = panels_of(log_history)
    layouts: list[list] = [[[0]], [[0, 1]], [[0, 0], [1, 2]], [[0, 1], [2, 3]]]
    layout = layouts[len(panels) - 1]
    figure = Figure(figsize=(9, 5 if len(layout) == 1 else 7), layout="constrained")
    for number, axes in figure.subplot_mosaic(layout).items():
        _draw(axes, panels[number])
    return figure


def panel_figure(panel: Panel) -> "Figure":
    """One panel as a matplotlib Figure without a background, for a page of any colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    _draw(figure.subplots(), panel)
    figure.patch.set_alpha(0)
    figure.axes[0].patch.set_alpha(0)
    return figure


def panels_of(log_history: list[dict]) -> list[Panel]:
    """The loss first, then what else the history tells."""
    losses = _lines(log_history, {"training": "loss", "validation": "eval_loss"})
    if not losses:
        raise ValueError(
            'the log history has neither "loss" nor "eval_loss" beside an "epoch": expected the'
            " list that train() returns, which is log_history in trainer_state.json"
        )
    f1 = _lines(log_history, {"validation": "eval_f1"})
    f1 = f1 or _lines(log_history, {"validation": "eval_overall_f1"})
    rate = _lines(log_history, {"learning rate": "learning_rate"})
    norm = _lines(log_history, {"gradient norm": "grad_norm"})
    title = f"{' and '.join(losses).capitalize()} loss"
    panels = [
        Panel(title, "loss (nats per label)", losses),
        Panel("Validation F1", "F1", f1, ylim=(0, 1)),
        Panel("Learning rate", "learning rate", rate, ".2g", ylim=(0, None)),
        Panel("Gradient norm", "norm before clipping", norm, ".3g", ylim=(0, None)),
    ]
    return [panel for panel in panels if panel.lines]


def _lines(log_history, keys):
    """By name, the points (epoch, value) of each key that the history has."""
    lines = {
        name: [(entry["epoch"], entry[key]) for entry in log_history if {"epoch", key} <= {*entry}]
        for name, key in keys.items()
    }
    return {name: points for name, points in lines.items() if points}


def _draw(axes, panel):
    """The lines of a panel, with the last value written at the end of each."""
    from matplotlib.ticker import MaxNLocator

    lower = min(panel.lines, key=lambda name: panel.lines[name][-1][1])
    is_alone = len(panel.lines) == 1
    for name, points in panel.lines.items():
        epochs, values = zip(*points, strict=True)
        color = COLORS.get(name, ANOTHER_COLOR)
        axes.plot(
            epochs,
            values,
            label=name,
            color=color,
            marker="o" if len(points) <= 50 else None,
            markersize=4,
            linewidth=1.5 if len(points) <= 500 else 0.6,
        )
        axes.annotate(
            f"{values[-1]:{panel.number_format}}",
            (epochs[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=color,
            # below and above, so that they stay apart where both lines end in one point
            va="top" if name == lower and not is_alone else "bottom",
        )
    last_epoch = max(points[-1][0] for points in panel.lines.values()) or 1
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.ylabel, ylim=panel.ylim)
    axes.set_xlim(-0.02 * last_epoch, 1.02 * last_epoch)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.lines.keys() & COLORS.keys():
        axes.legend(frameon=False)
