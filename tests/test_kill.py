"""study/kill.py in a short form, and what it says of a program that loses something.

It forks, and torch can compute in no child of a process that has computed gradients itself: so each
of these runs it in a new process. Nothing waits for a time of the clock: a busy machine only takes
longer.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rawtrain.study.kill import EXPERIMENTS, to_kill_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it forks and looks into /proc")

FORGETS_MOMENTS = """
from rawtrain.run import state
load = state.load_file
moments = ("|exp_avg", "|exp_avg_sq", "|step")
state.load_file = lambda file: {k: v for k, v in load(file).items() if not k.endswith(moments)}
"""
TRUSTS_ANYTHING = """
from rawtrain.run import checkpoint
checkpoint.verify = lambda path, step, identity: None
"""
WRITES_IN_PLACE = """
import contextlib
from rawtrain.run import durable
@contextlib.contextmanager
def published(folder, num_bytes):
    folder.mkdir()
    yield folder
    durable.write_manifest(folder, folder.iterdir())
durable.published = published
"""
ALWAYS_BEGINS_AGAIN = """
from rawtrain.run import directory
directory.newest_good = lambda *arguments: None
"""
IS_DEAF = """
from rawtrain.run import signals
signals.poll = lambda: None
"""
COLUMNS = ("runs", "kills", "inside", "signals", "most_lost", "seconds")


def study(num_runs, broken=""):
    """The exit code and what was printed; num_runs: of each experiment."""
    program = f"""{broken}
from rawtrain.study import kill
for name, number in {num_runs}.items():
    kill.EXPERIMENTS[name] = (*kill.EXPERIMENTS[name][:2], number, number)
kill.main({list(num_runs)})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def row(printed, experiment):
    """The numbers in a line of the table."""
    line = re.search(rf"^{experiment} (.*)$", printed, flags=re.MULTILINE)[1]
    return dict(zip(COLUMNS, map(int, re.findall(r"\d+", line)), strict=False))


@pytest.mark.slow
def test_nothing_is_lost_in_a_short_form_of_every_experiment():
    num_runs = {"random": 3, "stages": 4, "resumes": 1, "signals": 3, "damages": 5}
    assert num_runs.keys() == EXPERIMENTS.keys()
    code, printed = study(num_runs)
    assert code == 0 and "all runs hold" in printed, printed
    assert {name: row(printed, name)["runs"] for name in num_runs} == num_runs
    assert row(printed, "random")["kills"] >= 1
    assert row(printed, "stages")["kills"] == 4
    assert row(printed, "resumes")["kills"] == 20
    assert row(printed, "signals")["signals"] >= 1
    assert row(printed, "damages")["kills"] == 5
    folder = re.search(r"everything is in (\S+)", printed)[1]
    assert not Path(folder).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "num_runs", "complaints"),
    [
        (
            FORGETS_MOMENTS + TRUSTS_ANYTHING + IS_DEAF,
            {"resumes": 1, "damages": 2, "signals": 6},
            ["other bits than uninterrupted", "was not set aside", "steps after SIG"],
        ),
        (
            WRITES_IN_PLACE + ALWAYS_BEGINS_AGAIN,
            {"stages": 12, "resumes": 1},
            ["not whole under its final name", "it went on after 0"],
        ),
    ],
)
def test_a_program_that_loses_something_is_reported_and_ends_with_1(broken, num_runs, complaints):
    code, printed = study(num_runs, broken)
    assert code == 1 and "NOT all runs hold" in printed, printed
    shutil.rmtree(re.search(r"everything is in (\S+)", printed)[1])  # kept for a reader
    for complaint in complaints:
        assert complaint in printed


def test_every_kind_of_call_is_killed_the_first_a_middle_and_the_last_time():
    num_calls = {"rename checkpoint-N": 5, "write model .writing-checkpoint-N": 1, "mkdir .": 1}
    chosen = [(stage.name, stage.occurrence, stage.when) for stage in to_kill_at(num_calls)]
    assert chosen == [
        *(("rename checkpoint-N", n, when) for n in (1, 3, 5) for when in ("before", "after")),
        ("write model .writing-checkpoint-N", 1, "before"),
        ("write model .writing-checkpoint-N", 1, "half"),
        ("mkdir .", 1, "before"),
    ]
