"""The picture of a run's log: loss and F1, learning rate and gradient norm, over the epochs."""

import io
from dataclasses import dataclass
from typing import Any

from rawtrain.errors import dispensable

COLORS = {"training": "#0072b2", "validation": "#d55e00"}  # distinct for the colour-blind too
LAYOUTS = {1: [[0]], 2: [[0, 1]], 3: [[0, 0], [1, 2]], 4: [[0, 1], [2, 3]]}  # by number of panels


@dataclass(frozen=True)
class Panel:
    title: str
    ylabel: str
    lines: dict[str, list[tuple[float, float]]]  # by name, points of (epoch, value)
    number_format: str = ".3f"  # of the value that is written at the end of a line
    ylim: tuple = (None, None)


@dispensable("the picture of the losses")
def loss_picture(log_history: list[dict], **form: Any) -> bytes | None:
    """The picture in a form that matplotlib's savefig takes; None if there is nothing to show."""
    if not panels_of(log_history):
        return None
    picture = io.BytesIO()
    loss_figure(log_history).savefig(picture, **form)
    return picture.getvalue()


def loss_figure(log_history: list[dict]):
    """All panels as one matplotlib Figure, to show in a notebook or to change."""
    # imported here because it takes a second; no pyplot, which keeps every figure in memory
    from matplotlib.figure import Figure

    panels = panels_of(log_history)
    layout: list[list] = LAYOUTS[len(panels)]
    figure = Figure(figsize=(9, 5 if len(layout) == 1 else 7), layout="constrained")
    for number, axes in figure.subplot_mosaic(layout).items():
        _draw(axes, panels[number])
    return figure


def panels_of(log_history: list[dict]) -> list[Panel]:
    """What the history tells, the loss first. Its keys are Trainer's."""

    def lines(**keys):
        """By name, the points (epoch, value) of each key that the history has."""
        entries = [entry for entry in log_history if "epoch" in entry]
        found = {
            name: [(entry["epoch"], entry[key]) for entry in entries if key in entry]
            for name, key in keys.items()
        }
        return {name: points for name, points in found.items() if points}

    losses = lines(training="loss", validation="eval_loss")
    rate, norm = lines(rate="learning_rate"), lines(norm="grad_norm")
    panels = [
        Panel(f"{' and '.join(losses).capitalize()} loss", "loss (nats per label)", losses),
        Panel("Validation F1", "F1", lines(validation="eval_f1"), ylim=(0, 1)),
        Panel("Learning rate", "learning rate", rate, ".2g", ylim=(0, None)),
        Panel("Gradient norm", "norm before clipping", norm, ".3g", ylim=(0, None)),
    ]
    return [panel for panel in panels if panel.lines]


def _draw(axes, panel):
    """The lines of a panel, with the last value written at the end of each."""
    from matplotlib.ticker import MaxNLocator

    # the value of the lower line goes below its end, so that two that end in one point stay apart
    lower = min(panel.lines, key=lambda name: panel.lines[name][-1][1])
    for name, points in panel.lines.items():
        epochs, values = zip(*points, strict=True)
        color = COLORS.get(name, "#666666")
        (line,) = axes.plot(epochs, values, label=name, color=color)
        marker, width = "o" if len(points) <= 50 else "", 1.5 if len(points) <= 500 else 0.6
        line.set(marker=marker, markersize=4, linewidth=width)
        axes.annotate(
            f"{values[-1]:{panel.number_format}}",
            (epochs[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=color,
            va="top" if name == lower and len(panel.lines) > 1 else "bottom",
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
