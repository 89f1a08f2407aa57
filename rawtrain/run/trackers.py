"""The log history on its way to TensorBoard and Weights & Biases, under Trainer's names.

Both are imported only if --report_to names them, and write to <output_dir>/trackers. A run that
resumes logs again what came after its checkpoint, with the same bits; a tracker is told it once.
"""

import importlib.util
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rawtrain.config import TrainingSettings, public_values
from rawtrain.run.durable import enter, write_json


def problems_of(settings: TrainingSettings) -> Iterator[str]:
    """What is wrong with --report_to, as far as it shows before any data is read."""
    for name in settings.trackers:
        if name not in OPENED_BY:
            yield f"--report_to is {name}; allowed: none, {', '.join(OPENED_BY)}"
        elif not _is_installed(name):
            yield f"--report_to {name}: the package is not installed; pip install {name}"


def _is_installed(name: str) -> bool:
    # a folder "wandb" of results is found too, but is no package: it has no origin
    return getattr(importlib.util.find_spec(name), "origin", None) is not None


def start_trackers(settings: TrainingSettings, directory) -> list["Tracker"]:
    """The trackers of a run; none if nothing is trained. Raises ValueError if one cannot start."""
    if directory.is_finished or not settings.do_train:
        return []
    return [Tracker(name, settings, directory.path / "trackers") for name in settings.trackers]


class Tracker:
    """TensorBoard or wandb, and how far it was told of the run: <name>.json outlives the process.

    The place of an entry is its step, and its number among the entries of that step.
    """

    def __init__(self, name: str, settings: TrainingSettings, folder: Path):
        enter(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.place = folder / f"{name}.json", [-1, 0]
        self.told: dict[str, Any] = {"id": uuid.uuid4().hex, "place": self.place}
        if self.file.exists():
            self.told = json.loads(self.file.read_bytes())
        write_json(self.file, self.told)
        self.log, self.close = OPENED_BY[name](settings, folder, self.told["id"])

    def add(self, entry: dict) -> None:
        """Log an entry of the history, unless an interrupted process did so already."""
        from transformers.integrations.integration_utils import rewrite_logs  # eval_f1 -> eval/f1

        step, number = self.place
        self.place = [entry["step"], number + 1 if entry["step"] == step else 0]
        if self.place > self.told["place"]:
            values = {name: value for name, value in entry.items() if name != "step"}
            self.log(rewrite_logs(values), entry["step"])
            self.told["place"] = self.place
            write_json(self.file, self.told)


def _open_tensorboard(settings, folder, _):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(values, step):
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log, writer.close


def _open_wandb(settings, folder, run_id):
    import wandb

    project = os.environ.get("WANDB_PROJECT", "rawtrain")
    name, config = Path(settings.output_dir).absolute().name, public_values(settings)
    run_options = {"project": project, "name": name, "config": config, "dir": str(folder)}
    try:
        run = wandb.init(**run_options, id=run_id, resume="allow")
    except wandb.Error as error:
        raise ValueError(f"--report_to wandb: {error}; or set WANDB_MODE=offline") from None
    run.define_metric("train/global_step")
    run.define_metric("*", step_metric="train/global_step")
    return lambda values, step: run.log({**values, "train/global_step": step}), run.finish


OPENED_BY = {"tensorboard": _open_tensorboard, "wandb": _open_wandb}
