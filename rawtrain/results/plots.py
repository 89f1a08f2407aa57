"""The picture of a run: training and validation loss over epochs, with F1 where it was measured."""

import io
from pathlib import Path

from rawtrain.durable import write_bytes

TRAINING_COLOR, VALIDATION_COLOR = "#0072b2", "#d55e00"  # distinct for the colour-blind too


def save_loss_plot(log_history: list[dict], path: str | Path) -> None:
    """Write the picture of a log history with Trainer's keys as a PNG of 900 x 500 pixels."""
    picture = io.BytesIO()
    loss_figure(log_history).savefig(picture, format="png", dpi=100)
    write_bytes(Path(path), picture.getvalue())


def loss_figure(log_history: list[dict]):
    """The picture as a matplotlib Figure, to show in a notebook or to change."""
    # imported here because it takes a second; no pyplot, which keeps every figure in memory
    from matplotlib.figure import Figure

    training, validation = _points(log_history, "loss"), _points(log_history, "eval_loss")
    f1 = _points(log_history, "eval_f1") or _points(log_history, "eval_overall_f1")
    if not training and not validation:
        raise ValueError(
            'the log history has neither "loss" nor "eval_loss" beside an "epoch": expected the'
            " list that train() returns, which is log_history in trainer_state.json"
        )
    losses = {"training": training, "validation": validation}
    losses = {name: points for name, points in losses.items() if points}

    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(1, 2 if f1 else 1, squeeze=False)[0]
    panels[0].set(title=f"{' and '.join(losses).capitalize()} loss", ylabel="loss (nats per label)")
    _draw(panels[0], losses)
    if f1:
        panels[1].set(title="Validation F1", ylabel="F1", ylim=(0, 1))
        _draw(panels[1], {"validation": f1})
    return figure


def _points(log_history, key):
    return [(entry["epoch"], entry[key]) for entry in log_history if {"epoch", key} <= entry.keys()]


def _draw(axes, curves):
    """Lines by name, each a list of (epoch, value), with the last value written at the end."""
    from matplotlib.ticker import MaxNLocator

    colors = {"training": TRAINING_COLOR, "validation": VALIDATION_COLOR}
    lower = min(curves, key=lambda name: curves[name][-1][1])
    for name, points in curves.items():
        epochs, values = zip(*points, strict=True)
        axes.plot(
            epochs,
            values,
            label=name,
            color=colors[name],
            marker="o" if len(points) <= 50 else None,
            markersize=4,
            linewidth=1.5 if len(points) <= 500 else 0.6,
        )
        axes.annotate(
            f"{values[-1]:.3f}",
            (epochs[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=colors[name],
            va="top" if name == lower else "bottom",  # apart, also where both lines end in a point
        )
    last_epoch = max(points[-1][0] for points in curves.values()) or 1
    axes.set(xlabel="epoch", xlim=(-0.02 * last_epoch, 1.02 * last_epoch))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
