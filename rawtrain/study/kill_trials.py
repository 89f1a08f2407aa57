"""The experiments of kill.py: each function runs one trial and returns its `Run`."""

import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rawtrain.run.checkpoint import in_folder
from rawtrain.run.durable import DAMAGED
from rawtrain.study.kill_damages import damage_newest
from rawtrain.study.kill_jobs import Job
from rawtrain.study.kill_runs import Run, results_of
from rawtrain.study.kill_stages import Stage, die_at, die_soon_after, note, read_stages

AIMED_SHARE = 0.5  # of the random kills
AIMED_SECONDS = 0.001  # between two stages there is less; a save takes about 0.02
IMPORT_SECONDS = 5
SAVED = Stage("rename checkpoint-N", 1, "after")
SAVED_FOUR_TIMES = Stage("rename checkpoint-N", 4, "after")
FIRST_STEP_LOGGED = Stage("write entry metrics.jsonl", 1)


@dataclass(frozen=True)
class Uninterrupted:
    """What a run of `job` comes to if nobody kills it."""

    job: Job
    results: dict
    stages: list[Stage]
    seconds: float
    problems: list[str]


@dataclass(frozen=True)
class Trial:
    """A run to be killed, and what is drawn for it."""

    whole: Uninterrupted
    folder: Path
    rng: np.random.Generator
    num_kills: int = 1
    stage: Stage | None = None
    finishes: bool = True  # else it is enough to see how the run goes on

    def run(self):
        return Run(self.whole.job, self.folder)


def uninterrupted(job, folder):
    """Run a job without a kill, and note its stages."""
    run, notes, start_time = Run(job, folder), folder / "stages.txt", time.monotonic()
    run.start(fault=partial(note, notes))
    seconds = time.monotonic() - start_time
    return Uninterrupted(job, results_of(run.output_dir), read_stages(notes), seconds, run.problems)


def random_kills(trial):
    """Kills at any time of a start, or within a millisecond after any stage of it."""
    run, rng = trial.run(), trial.rng
    # not the stages of a whole run each time: the later kills are to find something to kill
    last_stage = max(2, 2 * len(trial.whole.stages) // (trial.num_kills + 1))
    for _ in range(trial.num_kills):
        if rng.random() < AIMED_SHARE:
            number, seconds = int(rng.integers(1, last_stage)), rng.uniform(0.0001, AIMED_SECONDS)
            code = run.start(fault=partial(die_soon_after, number, seconds))
        else:
            code = run.start([(rng.uniform(0, trial.whole.seconds), signal.SIGKILL)])
        if code >= 0:
            break
    run.finish_like(trial.whole.results)
    return run


def real_kills(trial):
    """Kills of whole commands; most of them come while it imports."""
    run, seconds = trial.run(), IMPORT_SECONDS + trial.whole.seconds
    for _ in range(trial.num_kills):
        run.start([(trial.rng.uniform(0, seconds), signal.SIGKILL)], real=True)
    run.finish_like(trial.whole.results, real=True)
    return run


def kill_at_stage(trial):
    """One kill, at a stage that is given."""
    run = trial.run()
    code = run.start(fault=partial(die_at, trial.stage))
    if code != -signal.SIGKILL:
        run.problems.append(f"was not killed {trial.stage}")
    run.finish_like(trial.whole.results)
    run.problems = [f"{problem} (killed {trial.stage})" for problem in run.problems]
    return run


def kill_after_every_save(trial):
    """Kills after each save of a run that saves at each step; nothing at all is to be lost."""
    run = trial.run()
    run.may_lose = 0
    for _ in range(trial.num_kills):
        if run.start(fault=partial(die_at, SAVED)) >= 0:
            run.problems.append(f"ended after {run.num_kills} resumes")
            break
    run.finish_like(trial.whole.results)
    return run


def signals(trial):
    """Signals that the program answers: what it promises is checked, and then the bits."""
    run, rng = trial.run(), trial.rng
    for _ in range(trial.num_kills):
        code = run.start(draw_signals(rng, trial.whole.seconds))
        run.problems += broken_promises(run, code)
        if code == 0:
            break
    run.finish_like(trial.whole.results, checkpoints_may_differ=True)
    return run


def draw_signals(rng, seconds):
    """Pairs (seconds after the one before, number), within the time that a run takes."""
    first, soon = rng.uniform(0, seconds), rng.uniform(0, 0.05)
    term, interrupt, checkpoint = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
    cases = (
        [(first, term)],
        [(first, interrupt)],
        [(first, term), (soon, term)],
        [(first, term), (soon, interrupt)],
        [(first, term), (soon, signal.SIGKILL)],
        [(first, checkpoint)],
        [(first, checkpoint), (soon, term)],
    )
    return cases[rng.choice(len(cases), p=(0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1))]


def broken_promises(run, code):
    """What a run did otherwise than it should after the signals it was sent, a line each."""
    asked_to_end = [(number, step) for number, step in run.sent if number != signal.SIGUSR1]
    if code < 0 or not asked_to_end:
        return []
    (number, step), broken = asked_to_end[0], []
    # 0: the run was over. Of two signals that wait together Python takes the lower number first.
    if code not in {0, *(128 + number for number, _ in asked_to_end)}:
        broken.append(f"exit code {code} after {number.name}")
    if run.last_step > step + 1:
        broken.append(f"went on for {run.last_step - step} steps after {number.name}")
    if run.unfinished:
        broken.append(f"ended by {number.name} and left {', '.join(run.unfinished)}")
    return broken


def damages(trial):
    """One damage to the newest of several checkpoints; it must be found, told and got over."""
    run, rng = trial.run(), trial.rng
    if run.start(fault=partial(die_at, trial.stage)) != -signal.SIGKILL:
        run.problems.append("was not killed before the damage")
    what, name, damaged = damage_newest(run.output_dir, rng)
    sound = [path for _, path in in_folder(run.output_dir) if path not in damaged]
    said, run.may_lose = len(run.log), run.may_lose * (1 + len(damaged))
    run.start(fault=partial(die_at, FIRST_STEP_LOGGED))
    told = run.log[said:]
    for checkpoint in damaged:
        if not checkpoint.with_name(f"{DAMAGED}{checkpoint.name}-1").is_dir():
            run.problems.append(f"{checkpoint.name} was not set aside")
    warnings = [line for line in told.splitlines() if DAMAGED in line]
    if not any(name in line for line in warnings):
        run.problems.append(f"{name} was not named")
    if f"goes on with {sound[0].name}" not in told:
        run.problems.append(f"did not go on with {sound[0].name}")
    if trial.finishes:
        run.finish_like(trial.whole.results)
    run.problems = [f"{problem} ({what})" for problem in run.problems]
    return run
