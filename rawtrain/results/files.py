"""The files of an output directory: their names, who may overwrite them, and the JSON ones."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

from rawtrain.command import write_settings
from rawtrain.results.plots import save_loss_plot

# Everything that a run writes, and therefore all that --overwrite_output_dir may remove.
WRITTEN = (
    "settings.json",
    "metrics.jsonl",
    "trainer_state.json",
    "train_results.json",
    "eval_results.json",
    "predict_results.json",
    "all_results.json",
    "predictions.conll",
    "loss.png",
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "chat_template.jinja",
    "checkpoint-*",
    ".writing-*",
)


def prepare_output_dir(settings):
    """Make the output directory, without anything an earlier run wrote, and return its path.

    That there may be something to remove was agreed to by --overwrite_output_dir, see
    `config.check`. Only files that a run writes are removed; others stay.
    """
    output_dir = Path(settings.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for pattern in WRITTEN:
        for path in output_dir.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_settings(settings, output_dir / "settings.json")
    return output_dir


def decide_work(settings, splits):
    """The settings with do_train, do_eval and do_predict decided.

    Without any of them it is all that there is data for. Raises ValueError for work without data.
    """
    work = {"do_train": "train", "do_eval": "validation", "do_predict": "test"}
    asked = any(getattr(settings, do) for do in work)
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
    if problems:
        raise ValueError("\n".join(problems))
    if asked:
        return settings
    return dataclasses.replace(settings, **{do: split in splits for do, split in work.items()})


def write_metrics(output_dir, split, metrics):
    """Write <split>_results.json and add the same to all_results.json, as Trainer does."""
    _write_json(output_dir / f"{split}_results.json", metrics)
    everything = output_dir / "all_results.json"
    earlier = json.loads(everything.read_text(encoding="utf-8")) if everything.exists() else {}
    _write_json(everything, earlier | metrics)


def write_training_results(settings, history, checkpoints, num_samples):
    """Write train_results.json, trainer_state.json and loss.png from the log history of a run."""
    output_dir, last = Path(settings.output_dir), history[-1]
    metrics = {name: value for name, value in last.items() if name != "step"}
    write_metrics(output_dir, "train", metrics | {"train_samples": num_samples})
    state = {
        "best_global_step": checkpoints.best_step,
        "best_metric": checkpoints.best_metric,
        "best_model_checkpoint": checkpoints.best_path and str(checkpoints.best_path),
        "epoch": last["epoch"],
        "global_step": last["step"],
        "log_history": history,
        "max_steps": last["step"],
        "num_train_epochs": math.ceil(last["epoch"]),
        "train_batch_size": settings.per_device_train_batch_size,
    }
    _write_json(output_dir / "trainer_state.json", state)  # for TrainerState.load_from_json
    if any("loss" in entry or "eval_loss" in entry for entry in history):
        save_loss_plot(history, output_dir / "loss.png")


def _write_json(file, values):
    # allow_nan=False: a number that is none must not pass as one
    file.write_text(
        json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
    )
