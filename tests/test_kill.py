"""study/kill.py in a short form, and what it says of a program that loses something.

It forks, and torch can compute in no child of a process that has computed gradients itself: so each
of these runs it in a new process.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rawtrain.study.kill import parse
from rawtrain.study.kill_jobs import make_jobs
from rawtrain.study.kill_stages import Stage, to_kill_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it forks and looks into /proc")

FORGETS_MOMENTS = """
from rawtrain.run.state import RunState
load = RunState._load_tensors
RunState._load_tensors = lambda state, moments, weights: load(state, {}, weights)
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
run_directory.newest_good = lambda *arguments: None
"""
IS_DEAF = """
from rawtrain.run import signals
signals.poll = lambda: None
"""


def study(options, broken=""):
    """The exit code and what was printed."""
    program = f"{broken}\nfrom rawtrain.study import kill\nkill.main({options.split()!r})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def row(printed, experiment):
    """The numbers in a line of the table."""
    line = re.search(rf"^{experiment} (.*)$", printed, flags=re.MULTILINE)[1]
    return dict(zip(COLUMNS, map(int, re.findall(r"\d+", line)), strict=False))


COLUMNS = ("runs", "kills", "inside", "signals", "other_bits", "by_hand", "most_lost", "seconds")


def test_nothing_is_lost_in_a_short_form_of_every_experiment():
    options = "--runs 3 --kills 9 --real 1 --stages 4 --resumes 3 --signals 6 --damages 6"
    # of this seed, and of the one below, the first signals come early in a run: they meet it also
    # if the machine is faster by then than it was when the run was timed
    code, printed = study(f"{options} --seed 4")
    assert code == 0 and "all runs hold" in printed, printed
    assert row(printed, "random")["kills"] >= 1
    assert row(printed, "real")["runs"] == 1
    assert row(printed, "stages")["kills"] == 4
    assert row(printed, "resumes")["kills"] == 2 * 3
    assert row(printed, "signals")["signals"] >= 1
    assert row(printed, "damages")["runs"] == 6
    folder = re.search(r"everything is in (\S+)", printed)[1]
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("broken", "options", "complaints"),
    [
        (
            FORGETS_MOMENTS + TRUSTS_ANYTHING + IS_DEAF,
            "resumes --resumes 2 damages --damages 2 signals --signals 12 --seed 6",
            ["other bits than uninterrupted", "was not set aside", "steps after SIG"],
        ),
        (
            WRITES_IN_PLACE + ALWAYS_BEGINS_AGAIN,
            "stages --stages 12 resumes --resumes 3",
            ["not whole under its final name", "goes on with its first step"],
        ),
    ],
)
def test_what_loses_something_is_told_and_ends_with_1(broken, options, complaints):
    code, printed = study(options, broken)
    assert code == 1 and "NOT all runs hold" in printed, printed
    shutil.rmtree(re.search(r"everything is in (\S+)", printed)[1])  # kept for a reader
    for complaint in complaints:
        assert complaint in printed


def test_flags_after_two_dashes_go_to_every_job():
    options, flags = parse(["random", "--kills", "3", "--", "--seed", "7"])
    assert (options.experiments, options.kills) == (["random"], 3)
    jobs = make_jobs(Path("data"), flags)
    assert all(job.flags[-2:] == ("--seed", "7") for job in jobs)
    assert len({job.name for job in jobs}) == len(jobs) == 14


def test_every_kind_of_stage_is_killed_the_first_a_middle_and_the_last_time():
    saves = [Stage("rename checkpoint-N", number) for number in (1, 2, 3, 4, 5)]
    stages = [*saves, Stage("write model .writing-checkpoint-N", 1), Stage("mkdir .", 1)]
    chosen = [(stage.name, stage.occurrence, stage.when) for stage in to_kill_at(stages)]
    assert chosen == [
        *(("rename checkpoint-N", n, when) for n in (1, 3, 5) for when in ("before", "after")),
        ("write model .writing-checkpoint-N", 1, "before"),
        ("write model .writing-checkpoint-N", 1, "half"),
        ("mkdir .", 1, "before"),
    ]
