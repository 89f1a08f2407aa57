"""The files of a run's results: written by the job, read by everything that shows them."""

import json
import math
from pathlib import Path

from rawtrain.config import TrainingSettings
from rawtrain.results.plots import save_loss_plot
from rawtrain.run.best import best_evaluation
from rawtrain.run.durable import write_json


def write_metrics(output_dir: Path, split: str, metrics: dict[str, float]) -> None:
    """Write <split>_results.json and add the same to all_results.json, as Trainer does.

    <split>_results.json comes last: if it is there, a finished run does not do the split again.
    """
    write_json(output_dir / "all_results.json", read_metrics(output_dir) | metrics)
    write_json(output_dir / f"{split}_results.json", metrics)


def read_metrics(output_dir: Path) -> dict[str, float]:
    """All that `write_metrics` wrote so far."""
    file = output_dir / "all_results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def read_history(output_dir: Path) -> list[dict]:
    """The log history of the training that ended in `output_dir`; empty if none did."""
    file = output_dir / "trainer_state.json"
    return json.loads(file.read_text(encoding="utf-8"))["log_history"] if file.exists() else []


def write_training_results(
    settings: TrainingSettings, history: list[dict], num_samples: int
) -> None:
    """Write train_results.json, trainer_state.json and loss.png from the log history of a run."""
    output_dir, last = Path(settings.output_dir), history[-1]
    metrics = {name: value for name, value in last.items() if name != "step"}
    write_metrics(output_dir, "train", metrics | {"train_samples": num_samples})
    best = best_evaluation(history, settings)
    checkpoint = output_dir / f"checkpoint-{best['step']}" if best else None
    state = {
        "best_global_step": best and best["step"],
        "best_metric": best and best[settings.best_metric_key],
        "best_model_checkpoint": str(checkpoint) if checkpoint and checkpoint.is_dir() else None,
        "epoch": last["epoch"],
        "global_step": last["step"],
        "log_history": history,
        "max_steps": last["step"],
        "num_train_epochs": math.ceil(last["epoch"]),
        "train_batch_size": settings.per_device_train_batch_size,
    }
    write_json(output_dir / "trainer_state.json", state)  # for TrainerState.load_from_json
    save_loss_plot(history, output_dir / "loss.png")
