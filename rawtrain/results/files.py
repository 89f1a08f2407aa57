"""What a run is to do, and the files of its results."""

import dataclasses
import json
import math
from pathlib import Path

from rawtrain.results import terminal
from rawtrain.results.plots import save_loss_plot
from rawtrain.run.best import best_evaluation
from rawtrain.run.durable import MANIFEST, write_json


def decide_work(settings, splits):
    """The settings with do_train, do_eval and do_predict decided.

    Without any of them it is all that there is data for. Raises ValueError for work without data.
    """
    work = {"do_train": "train", "do_eval": "validation", "do_predict": "test"}
    asked = any(getattr(settings, do) for do in work)
    replaces = settings.overwrite_output_dir or settings.resume_from_checkpoint == "false"
    if (Path(settings.output_dir) / MANIFEST).exists() and not replaces:
        # --do_predict alone means: with the model of the finished run that is there
        settings = dataclasses.replace(settings, do_train="train" in splits)
    evaluates_on_the_way = settings.eval_strategy in ("steps", "epoch")
    problems = [
        f"--{do} is given, but the data has no {split} split"
        for do, split in work.items()
        if getattr(settings, do) and split not in splits
    ]
    for flag, given in (
        (f"--eval_strategy {settings.eval_strategy}", evaluates_on_the_way),
        ("--load_best_model_at_end", settings.load_best_model_at_end),
        ("--save_strategy best", settings.save_strategy == "best"),
    ):
        if given and "validation" not in splits:
            problems.append(f"{flag} is given, but there is no validation data")
    if not asked:
        settings = dataclasses.replace(settings, **{d: s in splits for d, s in work.items()})
    if settings.push_to_hub and not settings.do_train:
        problems.append("--push_to_hub uploads what a run trains, and this one trains nothing")
    if problems:
        raise ValueError("\n".join(problems))
    return settings


def work_left(asked, settings):
    """What a finished run has still to do, as settings: what is asked for, or has no results yet.

    asked: the settings before `decide_work`. Prints the results that there are.
    """
    output_dir = Path(settings.output_dir)
    print("\n".join(terminal.stored_results(read_metrics(output_dir))))
    todo = {
        do: getattr(asked, do)
        or (getattr(settings, do) and not (output_dir / f"{split}_results.json").exists())
        for do, split in (("do_eval", "eval"), ("do_predict", "predict"))
    }
    return dataclasses.replace(settings, do_train=False, **todo)


def write_metrics(output_dir, split, metrics):
    """Write <split>_results.json and add the same to all_results.json, as Trainer does.

    <split>_results.json comes last: where it is, `work_left` takes the work of the split for done.
    """
    write_json(output_dir / "all_results.json", read_metrics(output_dir) | metrics)
    write_json(output_dir / f"{split}_results.json", metrics)


def read_metrics(output_dir):
    """All that `write_metrics` wrote so far."""
    file = output_dir / "all_results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def read_history(output_dir):
    """The log history of the training that ended in `output_dir`; empty if none did."""
    file = output_dir / "trainer_state.json"
    return json.loads(file.read_text(encoding="utf-8"))["log_history"] if file.exists() else []


def epoch_of(output_dir):
    """{"epoch": the epochs that the model there was trained for}; empty if it was not."""
    return {name: value for name, value in read_metrics(output_dir).items() if name == "epoch"}


def write_training_results(settings, history, num_samples):
    """Write train_results.json, trainer_state.json and loss.png from the log history of a run."""
    output_dir, last = Path(settings.output_dir), history[-1]
    metrics = {name: value for name, value in last.items() if name != "step"}
    write_metrics(output_dir, "train", metrics | {"train_samples": num_samples})
    best = best_evaluation(history, settings)
    checkpoint = best and output_dir / f"checkpoint-{best.step}"
    state = {
        "best_global_step": best and best.step,
        "best_metric": best and best.metric,
        "best_model_checkpoint": str(checkpoint) if best and checkpoint.is_dir() else None,
        "epoch": last["epoch"],
        "global_step": last["step"],
        "log_history": history,
        "max_steps": last["step"],
        "num_train_epochs": math.ceil(last["epoch"]),
        "train_batch_size": settings.per_device_train_batch_size,
    }
    write_json(output_dir / "trainer_state.json", state)  # for TrainerState.load_from_json
    if any("loss" in entry or "eval_loss" in entry for entry in history):
        save_loss_plot(history, output_dir / "loss.png")
