"""The files of a run's results: written by the job, read by everything that shows them."""

import json
import math
from pathlib import Path
from typing import Any

from rawtrain.config import TrainingSettings
from rawtrain.results.plots import loss_picture
from rawtrain.run.best import best_evaluation
from rawtrain.run.durable import json_text, write_bytes, write_json, write_text

FACTS_FILE = "card.json"
PREFIXES = {"validation": "eval", "test": "predict"}  # of the scores of a split, as in run_ner.py


def write_metrics(output_dir: Path, split: str, metrics: dict[str, float]) -> None:
    """Write <split>_results.json and add the same to all_results.json, as Trainer does.

    <split>_results.json comes last: if it is there, a finished run does not do the split again.
    """
    write_json(output_dir / "all_results.json", read_metrics(output_dir) | metrics)
    write_json(output_dir / f"{split}_results.json", metrics)


def read_metrics(output_dir: Path) -> dict[str, float]:
    """All that `write_metrics` wrote so far."""
    return _read(output_dir / "all_results.json")


def read_history(output_dir: Path) -> list[dict]:
    """The log history of the training that ended in `output_dir`; empty if none did."""
    return _read(output_dir / "trainer_state.json").get("log_history", [])


def read_facts(output_dir: str | Path) -> dict[str, Any]:
    """What `note` has kept so far."""
    return _read(Path(output_dir) / FACTS_FILE)


def note(output_dir: str | Path, **facts: Any) -> None:
    """Keep facts for the card: a dictionary joins one of the same name, all else replaces it."""
    kept = read_facts(output_dir)
    for name, value in facts.items():
        kept[name] = kept.get(name, {}) | value if isinstance(value, dict) else value
    write_text(Path(output_dir) / FACTS_FILE, json_text(kept, indent=2) + "\n")  # in this order


def _read(file):
    return json.loads(file.read_bytes()) if file.exists() else {}


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
    if (picture := loss_picture(history, format="png", dpi=100)) is not None:
        write_bytes(output_dir / "loss.png", picture)
