"""rawtrain.results.plots: the picture shows the numbers of the log history and no others."""

import struct

import pytest

from rawtrain.results.plots import loss_figure, loss_picture, panels_of


@pytest.fixture(scope="module", autouse=True)
def no_picture_is_drawn():
    """Here they are."""


def history(num_training=3, num_evaluations=2, f1_key=None):
    """A log history as train() returns it, with an evaluation before training."""
    training = [
        {"loss": 2 / step, "epoch": step / num_training * 2, "step": step, "learning_rate": 1e-5}
        | {"grad_norm": 1.5 * step}
        for step in range(1, num_training + 1)
    ]
    evaluations = [
        {"eval_loss": 2.5 - epoch, "epoch": epoch, "step": epoch * num_training}
        | ({f1_key: 0.4 * epoch} if f1_key else {})
        for epoch in range(num_evaluations)
    ]
    return [*evaluations, *training, {"train_loss": 9.9, "train_runtime": 1.0, "epoch": 2.0}]


def curves(axes):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def values(log_history, key):
    return [(entry["epoch"], entry[key]) for entry in log_history if key in entry]


@pytest.mark.parametrize("f1_key", [None, "eval_f1"])
def test_the_lines_hold_the_numbers_of_the_history(f1_key):
    log_history = history(f1_key=f1_key)
    loss_axes, *f1_axes, learning_rate_axes, grad_norm_axes = loss_figure(log_history).axes
    assert curves(loss_axes) == {
        "training": values(log_history, "loss"),
        "validation": values(log_history, "eval_loss"),
    }
    expected_f1 = [{"validation": values(log_history, f1_key)}] if f1_key else []
    assert [curves(axes) for axes in f1_axes] == expected_f1
    rates, norms = values(log_history, "learning_rate"), values(log_history, "grad_norm")
    assert curves(learning_rate_axes) == {"rate": rates}
    assert curves(grad_norm_axes) == {"norm": norms}


HISTORIES = {
    "usual": history(20, 3, "eval_f1"),
    "one point": history(1, 0),
    "no evaluation": history(50, 0),
    "only the evaluation before training": history(0, 1),
    "10,000 points": history(10_000, 10, "eval_f1"),
    "a gap": [{"loss": float("nan"), "epoch": 1}, {"loss": 1.0, "epoch": 2}],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("log_history", HISTORIES.values(), ids=HISTORIES.keys())
def test_every_history_gives_a_png_900_pixels_wide(log_history):
    header = loss_picture(log_history, format="png", dpi=100)[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    num_panels = len(panels_of(log_history))
    assert struct.unpack(">II", header[16:]) == (900, 500 if num_panels <= 2 else 700)


def test_a_panel_says_what_it_shows_and_in_which_unit():
    loss_axes, f1_axes, *others = loss_figure(history(f1_key="eval_f1")).axes
    assert loss_axes.get_title() == "Training and validation loss"
    assert (loss_axes.get_xlabel(), loss_axes.get_ylabel()) == ("epoch", "loss (nats per label)")
    assert [text.get_text() for text in loss_axes.get_legend().get_texts()] == [
        "training",
        "validation",
    ]
    assert (f1_axes.get_title(), f1_axes.get_ylim()) == ("Validation F1", (0, 1))
    assert [(axes.get_title(), axes.get_ylabel()) for axes in others] == [
        ("Learning rate", "learning rate"),
        ("Gradient norm", "norm before clipping"),
    ]
    assert loss_figure(history(3, 0)).axes[0].get_title() == "Training loss"


def test_last_values_are_written_at_the_ends_without_covering_each_other():
    same_end = [{"loss": 1.5, "epoch": 1.0}, {"eval_loss": 1.5, "epoch": 1.0}]
    figure = loss_figure(same_end)
    figure.draw_without_rendering()
    labels = figure.axes[0].texts
    assert [label.get_text() for label in labels] == ["1.500", "1.500"]
    lower, upper = (label.get_window_extent() for label in labels)
    assert lower.y1 <= upper.y0 and lower.x1 <= figure.bbox.x1


def test_a_history_of_nothing_to_show_gives_no_picture():
    assert loss_picture([{"train_loss": 0.1, "epoch": 1.0}, {"loss": 0.1}], format="png") is None
