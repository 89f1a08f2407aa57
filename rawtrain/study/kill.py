"""The proof that a run is never lost: `python -m rawtrain.study.kill`.

It trains a small model, kills the run, starts the same command again, and compares what comes out
with the run that nobody killed, to the last bit of weights, optimizer, metrics and predictions:

  random    killed with SIGKILL three times, at random instants and random calls that change a file;
            over task, workers, accumulation, bf16, padding, best model with early stopping
  stages    killed at every stage of a save, of a deletion and of the final files, and half-way
            through each write: the first, a middle and the last time
  resumes   killed after every single save
  signals   SIGTERM, SIGINT and SIGUSR1 at random instants, also twice, also with SIGKILL after them
  damages   flipped bits, lost tails, missing, added and swapped files in the newest checkpoint

After every end, all that has its final name must be whole; no more than the steps since the last
save may be lost; nobody may have to do anything. The exit code is 0 if all of this holds, else 1.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle, islice, product, repeat
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1

import numpy as np
import torch
from transformers import BertForMaskedLM, logging, set_seed

from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer
from rawtrain.run.checkpoint import in_folder
from rawtrain.run.durable import DAMAGED, MANIFEST, WRITING
from rawtrain.study.killed_run import Job, KilledRun, Stage, die_at, note

COMBINED = "--dataloader_num_workers {} --gradient_accumulation_steps {}"
BEST = "--eval_strategy steps --eval_steps 2 --load_best_model_at_end --early_stopping_patience 3"
FLAGS = [COMBINED.format(*numbers) for numbers in product((0, 2), (1, 3))]
FLAGS += ["--bf16", "--padding", BEST]
JOBS = [Job(task, flags) for flags in FLAGS for task in ("ner", "mlm")]
NUM_SAVES = 20  # that are each followed by a kill
EACH_STEP = f"--save_steps 1 --max_steps {NUM_SAVES + 3}"
SAVED_EACH_STEP = [Job(job.task, f"{job.flags} {EACH_STEP}") for job in (JOBS[0], JOBS[7])]
SAVED, SAVED_FOUR_TIMES = (Stage("rename checkpoint-N", number, "after") for number in (1, 4))


def write_data(folder: Path) -> None:
    """Sentences of the docstrings, a random BERT that knows their words, settings of both tasks.

    76 rows in batches of 8 are 10 micro-batches an epoch, the last one short; of 3 to a step the
    last step has one.
    """
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    folder.mkdir()
    corpus, files = read_docstring_corpus(), {}
    for name, num_rows in (("train", 76), ("validation", 24), ("test", 24)):
        split, file = corpus.splits[name], folder / f"{name}.jsonl"
        pairs = islice(zip(split.words, split.tags, strict=True), num_rows)
        rows = [
            {"tokens": words, "ner_tags": tags, "text": " ".join(words)} for words, tags in pairs
        ]
        file.write_text("\n".join(map(json.dumps, rows)))
        files[f"{name}_file"] = str(file)

    tokenizer = train_small_tokenizer(corpus.documents[:300], 600, model_max_length=48)
    config = small_bert_config(tokenizer)
    config.update({"hidden_size": 16, "intermediate_size": 32})
    set_seed(0)
    BertForMaskedLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")

    settings = {
        **{"model_name_or_path": str(folder / "model"), "learning_rate": 3e-3, "max_steps": 20},
        **{"logging_steps": 1, "save_steps": 3, "save_total_limit": 2, "disable_tqdm": True},
        **{"use_cpu": True, "preprocessing_num_workers": 1},
    }
    (folder / "ner.json").write_text(json.dumps(settings | files))
    del files["test_file"]
    (folder / "mlm.json").write_text(json.dumps(settings | files | {"line_by_line": True}))


# What is done to a run. `whole` is one of the same job that nobody killed.


def kill_at_random(run, whole, rng):
    """Kills at any instant of a start, or at a call that changes a file."""
    for _ in range(3):
        if rng.random() < 0.5:
            run.start([(rng.uniform(0, whole.seconds), SIGKILL)])
        else:  # an early one of its name: a start that resumes has fewer of them
            name, when = rng.choice(list(whole.num_calls)), rng.choice(["before", "after"])
            run.start(fault=partial(die_at, Stage(name, rng.integers(1, 4), when)))
    run.finish_like(whole)


def kill_at_stage(run, whole, rng, stage):
    if run.start(fault=partial(die_at, stage)) != -SIGKILL:
        run.problems.append("was not killed")
    run.finish_like(whole)
    run.problems = [f"{problem} ({stage})" for problem in run.problems]


def to_kill_at(num_calls: dict[str, int]) -> list[Stage]:
    """Of the calls of each name the first, a middle and the last; also half-way through a write.

    After a call is before the next one, save for what gives a name: there it is worth its own kill.
    """
    stages = []
    for name, number in num_calls.items():
        whens = ["before"]
        whens += ["half"] * name.startswith(("write ", f"flush {WRITING}"))
        whens += ["after"] * name.startswith(("rename ", "replace "))
        for occurrence in sorted({1, (number + 1) // 2, number}):
            stages += [Stage(name, occurrence, when) for when in whens]
    return stages


def kill_after_every_save(run, whole, rng):
    """Of a run that saves at each step nothing at all may be lost."""
    run.may_lose = 0
    for number in range(NUM_SAVES):
        if run.start(fault=partial(die_at, SAVED)) != -SIGKILL:
            run.problems.append(f"was not killed after {number} resumes")
            break
    run.finish_like(whole)


def send_signals(run, whole, rng):
    """Signals that a run answers: one that ends it does so within a step, and leaves no halves."""
    cases = [[SIGTERM]] * 4 + [[SIGINT], [SIGUSR1], [SIGUSR1, SIGTERM]]
    cases += [[SIGTERM, another] for another in (SIGTERM, SIGINT, SIGKILL)]
    for _ in range(3):
        first = rng.uniform(0, whole.seconds)
        instants = first, first + rng.uniform(0, 0.05)
        code = run.start(zip(instants, cases[rng.integers(len(cases))], strict=False))
        asked_to_end = [(number, step) for number, step in run.sent if number != SIGUSR1]
        if code >= 0 and asked_to_end:
            number, step = asked_to_end[0]
            if run.last_step > step + 1:
                run.problems.append(f"went on for {run.last_step - step} steps after {number.name}")
            if run.unfinished:
                run.problems.append(f"ended by {number.name} and left {', '.join(run.unfinished)}")
        if code == 0:
            break
    run.finish_like(whole, checkpoints_count=False)  # a signal adds one


def damage_newest(run, whole, rng):
    """A damage to the newest of four checkpoints must be found, told and got over."""
    if run.start(fault=partial(die_at, SAVED_FOUR_TIMES)) != -SIGKILL:
        run.problems.append("was not killed before the damage")
    checkpoints = in_folder(run.output_dir)
    newest, older = [path for _, path in checkpoints[:2]]
    what, name, damaged = damage(newest, older, rng)
    run.may_lose *= 1 + len(damaged)
    run.finish_like(whole)
    if not any(name in line for line in run.said.splitlines() if DAMAGED in line):
        run.problems.append(f"{name} was not named")
    for checkpoint in damaged:
        if not checkpoint.with_name(f"{DAMAGED}{checkpoint.name}-1").is_dir():
            run.problems.append(f"{checkpoint.name} was not set aside")
    if run.resumed_from != checkpoints[len(damaged)][0]:
        run.problems.append(f"went on with {run.resumed_from}")
    run.problems = [f"{problem} ({what})" for problem in run.problems]


def damage(newest, older, rng):
    """Do to a checkpoint what a disk or a careless hand does.

    Returns what that was, in words; the name that the program should tell; which are damaged now.
    """
    kinds = ("flip", "cut", "zeros", "remove", "add", "swap", "swap folders")
    kind = rng.choice(kinds, p=(0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    file = newest / rng.choice(sorted(os.listdir(newest)))
    content = bytearray(file.read_bytes())
    if kind == "flip":  # one bit, anywhere
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
    elif kind == "cut":
        os.truncate(file, int(rng.integers(len(content))))
    elif kind == "zeros":  # the right length: what a power cut leaves of a file not flushed
        os.truncate(file, len(content) // 2)
        os.truncate(file, len(content))
    elif kind == "remove":
        file.unlink()
    elif kind == "add":
        file = Path(shutil.copy(file, newest / f"copy-of-{file.name}"))
    else:  # a file that is not the same in both, or all of them
        names = ("model.safetensors", "optimizer.safetensors", "state.json", MANIFEST)
        file = newest if kind == "swap folders" else newest / rng.choice(names)
        other, aside = older / file.relative_to(newest), newest.with_name("aside")
        for source, target in ((file, aside), (other, file), (aside, other)):
            os.rename(source, target)
    # a manifest that was changed accuses the files of not being what it says
    name = newest.name if file.name == MANIFEST else file.name
    return f"{kind} {file.name}", name, [newest, older] if "swap" in kind else [newest]


# The experiments: what is done, to which jobs, and to how many runs in the short and the long form
EXPERIMENTS = {
    "random": (kill_at_random, JOBS, 14, 100),
    "stages": (kill_at_stage, JOBS[:1], 24, 1000),  # or as many as there are
    "resumes": (kill_after_every_save, SAVED_EACH_STEP, 2, 2),
    "signals": (send_signals, JOBS, 6, 50),
    "damages": (damage_newest, [Job("ner", "--save_total_limit 4")], 16, 200),
}


def all_hold(name, options, folder, pool):
    """Do an experiment and print its line and its problems; whether there are none."""
    start_time, rng = time.monotonic(), np.random.default_rng(options.seed)
    trial, jobs, short, long = EXPERIMENTS[name]
    num_runs = long if options.long else short
    wholes = list(pool.map(run_whole, jobs[:num_runs], repeat(folder)))
    trials = repeat(trial)
    if trial is kill_at_stage:
        stages = rng.permutation(to_kill_at(wholes[0].num_calls))
        trials = [partial(trial, stage=stage) for stage in stages]
    rngs = rng.spawn(num_runs)
    runs = list(pool.map(run_trial, rngs, trials, cycle(wholes), repeat(folder)))
    bad = [run for run in runs if run.problems]
    print(
        f"{name:<8}{len(runs):>7}"
        f"{sum(run.num_kills for run in runs):>7}"
        f"{sum(run.num_inside for run in runs):>8}"
        f"{sum(run.num_signals for run in runs):>9}"
        f"{max(run.most_lost for run in runs):>11}"
        f"{time.monotonic() - start_time:>9.0f}"
        f"  {f'{len(bad)} BAD' if bad else 'holds'}"
    )
    for run in bad:
        print(f"  {run.folder}: {run.job.task} {run.job.flags}")
        print("\n".join(f"    {problem}" for problem in run.problems), flush=True)
    return not bad


def run_whole(job, parent):
    run = KilledRun(job, parent)
    run.start(fault=note)
    if run.problems:
        sys.exit(f"{job}, uninterrupted: {'; '.join(run.problems)}")
    return run


def run_trial(rng, trial, whole, parent):
    run = KilledRun(whole.job, parent)
    trial(run, whole, rng)
    if not run.problems:
        shutil.rmtree(run.folder)
    return run


def main(arguments=None):
    """The command; exits with its verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m rawtrain.study.kill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="*", metavar="experiment", help="default: all")
    parser.add_argument("--long", action="store_true", help="many runs: a quarter of an hour")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    options = parser.parse_args(arguments)
    if unknown := set(options.experiments) - EXPERIMENTS.keys():
        parser.error(f"{min(unknown)!r} is no experiment; there are {', '.join(EXPERIMENTS)}")
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    print(f"seed {options.seed}; everything is in {folder}\n")
    print("           runs  kills  inside  signals  most lost  seconds", flush=True)
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, forking) as writer:  # a process that has computed does not fork
        writer.submit(write_data, folder / "data").result()
    # a child gets ^C with its default: Python's own exception could rise before it is the command
    with ProcessPoolExecutor(2, forking, signal.signal, (SIGINT, signal.SIG_DFL)) as pool:
        names = options.experiments or EXPERIMENTS
        verdicts = [all_hold(name, options, folder, pool) for name in names]
    if all(verdicts):
        shutil.rmtree(folder)
    print("\nall runs hold" if all(verdicts) else f"\nNOT all runs hold: see {folder}")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
