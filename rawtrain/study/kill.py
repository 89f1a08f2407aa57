"""The proof that a run is never lost: `python -m rawtrain.study.kill`.

It trains a small model, kills the run, starts the same command again, and compares what comes out
with the run that nobody killed, to the last bit of weights, optimizer, metrics and predictions:

  random    killed with SIGKILL at random instants, half of them aimed at saves and deletions; over
            task, workers, accumulation, bf16, padding, best model with early stopping
  real      the same with whole commands, imports and all, instead of forked ones
  stages    killed at every stage of a save, of a deletion and of the final files, and half-way
            through each write: the first, a middle and the last time
  resumes   killed after every single save
  signals   SIGTERM, SIGINT and SIGUSR1 at random instants, also twice, also with SIGKILL after them
  damages   flipped bits, lost tails, missing, added and swapped files in the newest checkpoint

After every end, all that has its final name must be whole; no more than the steps since the last
save may be lost; nobody may have to do anything. The program exits with 0 if all of this holds and
with 1 if not. Flags after `--` are added to the command of every job.
"""

import argparse
import itertools
import math
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rawtrain.study import kill_trials
from rawtrain.study.kill_jobs import make_jobs, write_data
from rawtrain.study.kill_stages import to_kill_at
from rawtrain.study.kill_trials import SAVED_FOUR_TIMES, Trial, uninterrupted

LONG = {
    **{"runs": 100, "kills": 500, "real": 20, "stages": 10_000},  # a run may end before a kill
    **{"resumes": 20, "signals": 100, "damages": 200},
}


class Study:
    """What all experiments share: options, jobs, processes, one generator of all draws."""

    def __init__(self, options, folder, pool, jobs):
        self.options, self.folder, self.pool = options, folder, pool
        self.rng = np.random.default_rng(options.seed)
        self.jobs = jobs
        self.wholes, self.num_folders = {}, 0

    def new_folder(self):
        self.num_folders += 1
        return self.folder / f"run-{self.num_folders}"

    def run_uninterrupted(self, jobs):
        """Run each of `jobs` that was not run yet."""
        new = [job for job in dict.fromkeys(jobs) if job not in self.wholes]
        folders = [self.new_folder() for _ in new]
        for whole in self.pool.map(uninterrupted, new, folders):
            if whole.problems:
                sys.exit(f"{whole.job.name}, uninterrupted: {'; '.join(whole.problems)}")
            self.wholes[whole.job] = whole

    def trial(self, job, **values):
        rng = self.rng.spawn(1)[0]
        return Trial(self.wholes[job], self.new_folder(), rng, **values)


# The trials of each experiment


def random_kills(study):
    jobs = list(itertools.islice(itertools.cycle(study.jobs), study.options.runs))
    study.run_uninterrupted(jobs)
    num_kills = math.ceil(study.options.kills / max(1, len(jobs)))
    return [study.trial(job, num_kills=num_kills) for job in jobs]


def real_kills(study):
    jobs = [study.jobs[3], study.jobs[4]]  # ner with workers and accumulation, the simplest mlm
    jobs = jobs[: study.options.real]
    study.run_uninterrupted(jobs)
    num_kills = math.ceil(study.options.real / max(1, len(jobs)))
    return [study.trial(job, num_kills=num_kills) for job in jobs]


def kill_at_stage(study):
    job = study.jobs[0]
    study.run_uninterrupted([job])
    stages = to_kill_at(study.wholes[job].stages)
    chosen = study.rng.permutation(len(stages))[: study.options.stages]
    return [study.trial(job, stage=stages[number]) for number in sorted(chosen)]


def kill_after_every_save(study):
    num_kills = study.options.resumes
    flags = ("--save_steps", "1", "--max_steps", str(num_kills + 3))
    jobs = [study.jobs[number].with_flags("saves each step", *flags) for number in (0, 7)]
    study.run_uninterrupted(jobs)
    return [study.trial(job, num_kills=num_kills) for job in jobs]


def signals(study):
    num_runs = math.ceil(study.options.signals / 3)
    jobs = list(itertools.islice(itertools.cycle(study.jobs), num_runs))
    study.run_uninterrupted(jobs)
    return [study.trial(job, num_kills=3) for job in jobs]


def damages(study):
    job = study.jobs[0].with_flags("keeps four", "--save_total_limit", "4")
    study.run_uninterrupted([job])
    numbers = range(study.options.damages)
    return [study.trial(job, stage=SAVED_FOUR_TIMES, finishes=n % 4 == 0) for n in numbers]


EXPERIMENTS = {
    "random": random_kills,
    "real": real_kills,
    "stages": kill_at_stage,
    "resumes": kill_after_every_save,
    "signals": signals,
    "damages": damages,
}


# Running and telling

COLUMNS = ("runs", "kills", "inside", "signals", "other bits", "by hand", "most lost", "seconds")


def run_experiment(name, study):
    """Run an experiment and print its line and its problems; whether it has none."""
    start_time = time.monotonic()
    make_trials = EXPERIMENTS[name]
    trials = make_trials(study)
    results = study.pool.map(getattr(kill_trials, make_trials.__name__), trials)
    runs = list(tqdm(results, name, len(trials), leave=False, disable=not sys.stderr.isatty()))
    seconds = time.monotonic() - start_time
    bad = [run for run in runs if run.problems]
    numbers = (
        len(runs),
        sum(run.num_kills for run in runs),
        sum(run.num_inside for run in runs),
        sum(run.num_signals for run in runs),
        sum(run.has_other_bits for run in runs),
        sum(run.num_manual for run in runs),
        max((run.most_lost for run in runs), default=0),
        round(seconds),
    )
    cells = [f"{number:>{len(title) + 2}}" for number, title in zip(numbers, COLUMNS, strict=True)]
    print(f"{name:<8}{''.join(cells)}  {f'{len(bad)} BAD' if bad else 'holds'}", flush=True)
    for run in bad:
        print(f"  {run.folder}: {run.job.name}")
        print("\n".join(f"    {problem}" for problem in run.problems), flush=True)
    for run in runs:
        if run not in bad:
            shutil.rmtree(run.folder)
    return not bad


def main(arguments=None):
    """The command; exits with its verdict."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, flags = parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="rawtrain-kill-"))
    print(f"seed {options.seed}; everything is in {folder}\n")
    print(f"{'':<8}{''.join(f'  {title}' for title in COLUMNS)}", flush=True)
    forking = multiprocessing.get_context("fork")
    writer = forking.Process(target=write_data, args=(folder / "data",))  # torch computes there
    writer.start()
    writer.join()
    # a child gets ^C with its default: Python's own exception could rise before it is the command
    default = (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(options.processes, forking, signal.signal, default) as pool:
        study = Study(options, folder, pool, make_jobs(folder / "data", flags))
        all_hold = all([run_experiment(name, study) for name in options.experiments or EXPERIMENTS])
    if all_hold:
        shutil.rmtree(folder)
    print("\nall runs hold" if all_hold else f"\nNOT all runs hold: see {folder}")
    sys.exit(0 if all_hold else 1)


def parse(arguments):
    """The options, and the flags for the jobs, which stand after `--`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m rawtrain.study.kill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = partial(parser.add_argument, type=int, metavar="N")
    parser.add_argument("experiments", nargs="*", help="which (default: all, in a short form)")
    parser.add_argument(
        "--long", action="store_true", help="the long form of all: a quarter of an hour"
    )
    add("--runs", default=14, help="random: runs (default: %(default)s)")
    add("--kills", default=42, help="random: kills, over all runs (default: %(default)s)")
    add("--real", default=2, help="real: kills (default: %(default)s)")
    add("--stages", default=24, help="stages: as many of them, drawn (default: %(default)s)")
    add("--resumes", default=20, help="resumes: of each of two runs (default: %(default)s)")
    add("--signals", default=12, help="signals: starts that get some (default: %(default)s)")
    add("--damages", default=24, help="damages (default: %(default)s)")
    add("--seed", default=0, help="of all that is drawn (default: %(default)s)")
    add("--processes", default=2, help="runs side by side (default: %(default)s)")
    options = parser.parse_intermixed_args(arguments[:at])
    unknown = [name for name in options.experiments if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no experiment; there are {', '.join(EXPERIMENTS)}")
    if options.long:
        vars(options).update(LONG)
    return options, tuple(arguments[at + 1 :])


if __name__ == "__main__":
    main()
