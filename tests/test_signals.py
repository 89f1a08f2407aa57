"""Signals end the program at once where nothing is lost, and after a checkpoint elsewhere."""

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from conftest import NoTokenizer, padded, random_rows, tiny_bert

from rawtrain.batches import TrainingBatches
from rawtrain.loop import train
from rawtrain.loss import summed_cross_entropy
from rawtrain.run.checkpoint import Checkpoints, in_folder
from rawtrain.run.signals import Interrupted, checkpoint_asked, held, poll

pytestmark = pytest.mark.usefixtures("listening")


send = partial(os.kill, os.getpid())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_where_nothing_is_held_the_program_ends_at_once_with_128_and_the_signal(number, capfd):
    with pytest.raises(Interrupted) as end:
        send(number)
    assert end.value.code == 128 + number
    assert capfd.readouterr().err == f"interrupted by {number.name}\n"


def test_held_it_waits_for_a_poll_and_the_first_signal_decides():
    reached = []
    with pytest.raises(Interrupted), held():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        reached.append(1)
        with pytest.raises(Interrupted) as end:
            poll()
        assert end.value.code == 143
        reached.append(2)
    assert reached == [1, 2]  # and on leaving it is raised


def test_held_within_held_waits_for_the_outer_one():
    reached = []
    with pytest.raises(Interrupted), held():
        with held():
            send(signal.SIGTERM)
        reached.append(1)
    assert reached


def test_a_swallowed_end_comes_again_at_the_next_poll():
    with contextlib.suppress(BaseException):  # as some libraries do
        send(signal.SIGTERM)
    with pytest.raises(Interrupted):
        poll()


def test_sigusr1_asks_once_and_only_while_something_is_trained(capfd):
    send(signal.SIGUSR1)
    assert not checkpoint_asked()
    with held():
        send(signal.SIGUSR1)
        assert checkpoint_asked() and not checkpoint_asked()
    assert capfd.readouterr().err == (
        "SIGUSR1: nothing is being trained yet\nSIGUSR1: a checkpoint follows\n"
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_signals_to_the_whole_group_end_a_run_after_a_checkpoint(settings, workers):
    """A terminal's ^C, and `timeout`, reach the worker processes too."""
    chosen = settings(max_steps=20, dataloader_num_workers=workers, save_strategy="no")
    batches = TrainingBatches(26, chosen, padded(random_rows()))
    steps = []

    def score_and_signal(model, batch, labelled):
        steps.append(1)
        if len(steps) == 7:
            children = subprocess.run(
                ["pgrep", "-P", str(os.getpid())], capture_output=True, text=True
            ).stdout.split()
            assert len(children) >= workers
            for number in ("TERM", "INT", "USR1"):  # by another process, as a shell's are
                subprocess.run(["kill", f"-{number}", *children], capture_output=True)
        if len(steps) == 14:  # with batches that the workers made after their signals
            send(signal.SIGTERM)
        return summed_cross_entropy(model, batch, labelled)

    with pytest.raises(Interrupted):
        train(
            tiny_bert(), batches, chosen,
            batch_loss=score_and_signal, checkpoints=Checkpoints(chosen, NoTokenizer()),
        )  # fmt: skip
    assert [step for step, _ in in_folder(chosen.output_dir)] == [14]


STOPS_AT_AN_IMPORT = """if True:
    import runpy, sys, time

    class Stop:
        @staticmethod
        def find_spec(name, path, target=None):
            if name == stop_at:
                print("here", flush=True)
                while True:
                    time.sleep(0.1)

    stop_at, command = sys.argv.pop(1), sys.argv.pop(1)
    sys.meta_path.insert(0, Stop)
    runpy.run_module(command, run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ner --output_dir out", "rawtrain.cli.command"),
        ("ner --output_dir out", "torch"),
        ("ner --output_dir out", "rawtrain.loop"),
        ("tag a-folder a-text", "torch"),
        ("fill a-folder [MASK]", "torch"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_imports_of_a_command_ends_it_and_leaves_nothing(
    number, command, name, tmp_path
):
    program = [sys.executable, "-c", STOPS_AT_AN_IMPORT, name, *f"rawtrain.{command}".split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, cwd=tmp_path, **pipes) as process:
        assert process.stdout.readline() == b"here\n"
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.decode() == f"interrupted by {number.name}\n"
    assert not list(tmp_path.iterdir())
