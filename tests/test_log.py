"""What a run tells on its way: its history in metrics.jsonl, and lines where there is no bar."""

import io
import json
import logging

import pytest

from rawtrain import NerSettings
from rawtrain.errors import visible
from rawtrain.run import log as run_log
from rawtrain.run.log import RunLog, configure_logging


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    log = RunLog(tmp_path / "metrics.jsonl", disable_tqdm=True)
    for step in (1, 2, 3):
        log.add({"loss": 0.1 * step, "step": step})
    again = RunLog(tmp_path / "metrics.jsonl", disable_tqdm=True)
    again.restore(log.history[:2])
    again.add({"loss": 0.5, "step": 3})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == again.history == [*log.history[:2], {"loss": 0.5, "step": 3}]


@pytest.mark.parametrize("library", ["", "transformers", "datasets"])
def test_control_characters_of_a_message_are_shown_and_never_sent(library, monkeypatch):
    configure_logging(NerSettings(log_level="info"))
    shown = io.StringIO()
    monkeypatch.setattr(logging.getLogger(library).handlers[0], "stream", shown)
    name = f"{library or 'rawtrain'}.anything"
    logging.getLogger(name).warning("a word \x1b]0;owned\x07 of %s", "\x9b2Jdata\nnext")
    assert r"a word \x1b]0;owned\x07 of \x9b2Jdata" + "\nnext\n" in shown.getvalue()


def test_what_turns_the_direction_of_writing_is_shown():
    assert visible("a\u202eb\u2066") == r"a\u202eb\u2066" and visible("שלום, é\n") == "שלום, é\n"


def test_without_a_bar_a_line_shows_the_progress_every_20_seconds(monkeypatch, caplog):
    now = 0
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now)
    log = RunLog(disable_tqdm=True)
    with caplog.at_level("INFO", logger="rawtrain"):
        log.start(num_steps=30, first_step=2)
        for step in range(3, 13):
            now += 4  # seconds a step
            log.tick(step)
            if step == 6:
                log.add({"loss": 0.5, "learning_rate": 0.01, "step": step})
    assert caplog.messages == [
        "step 5/30  0.25 steps/s  01:40 left",
        "step 10/30  loss 0.5000  learning rate 0.01  0.25 steps/s  01:20 left",
    ]


def test_a_bar_shows_the_loss_and_gives_way_to_lines(capfd, caplog):
    log = RunLog(disable_tqdm=False)
    log.bar.mininterval = 0
    with caplog.at_level("INFO", logger="rawtrain"):
        log.start(num_steps=4, first_step=1)
        log.tick(2)
        log.add({"loss": 0.5, "learning_rate": 0.01, "step": 2})
        log.say("before the end")
        log.finish()
        log.add({"eval_loss": 0.25, "epoch": 1.0, "step": 4})
    shown = capfd.readouterr().err
    assert "2/4" in shown and "loss 0.5000" in shown and "\rbefore the end\n" in shown
    assert caplog.messages == ["epoch 1.00  step 4  loss 0.2500"]
