"""The log history on its way to TensorBoard and Weights & Biases, under Trainer's names.

Both are imported only when --report_to names them. What they write stands in
<output_dir>/trackers. A run that goes on after an interruption goes on there too: it logs again
what came after its checkpoint, and that is shown once.
"""

import importlib.util
import json
import os
import uuid
from pathlib import Path

from rawtrain.config import public_values
from rawtrain.run.durable import write_json

FOLDER = "trackers"
TRACKERS = ("tensorboard", "wandb")


def problems_of(settings):
    """What is wrong with --report_to, as far as it shows before any data is read."""
    named = settings.report_to or "none"
    for name in [named] if isinstance(named, str) else named:
        if name not in ("none", *TRACKERS):
            yield f"--report_to is {name}; allowed: none, {', '.join(TRACKERS)}"
        elif name != "none" and not _is_installed(name):
            yield f"--report_to {name}: the package is not installed; pip install {name}"


def start_trackers(settings, directory):
    """The trackers of a run that is trained now; none if it is finished.

    directory: its `run.directory.RunDirectory`. Raises ValueError if one cannot be started.
    """
    if directory.is_finished or not settings.do_train:
        return []
    makers = {"tensorboard": TensorBoard, "wandb": Wandb}
    return [makers[name](settings, directory.path / FOLDER) for name in settings.trackers]


def trainers_names(entry):
    """A log entry as Trainer hands it to trackers.

    >>> trainers_names({"loss": 0.5, "eval_f1": 0.6, "epoch": 1.0, "step": 8})
    {'train/loss': 0.5, 'eval/f1': 0.6, 'train/epoch': 1.0}
    """
    return {
        f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}": value
        for name, value in entry.items()
        if name != "step"
    }


class TensorBoard:
    """Event files in trackers/tensorboard, for `tensorboard --logdir`."""

    def __init__(self, settings, folder: Path):
        self.settings, self.folder, self.writer = settings, folder / "tensorboard", None

    def resume(self, history):
        """Go on after the entries of a checkpoint."""
        # what stands at this step or later is hidden: so its own entries are written once more
        step = history[-1]["step"] if history and self.folder.exists() else 0
        self._open(purge_step=step)
        for entry in history:
            if entry["step"] >= step:
                self.add(entry)

    def add(self, entry):
        if self.writer is None:
            self._open()
        for name, value in trainers_names(entry).items():
            self.writer.add_scalar(name, value, entry["step"])
        self.writer.flush()

    def close(self):
        if self.writer is not None:
            self.writer.close()

    def _open(self, purge_step=None):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=purge_step)
        if not purge_step:
            text = json.dumps(public_values(self.settings), indent=2)
            self.writer.add_text("settings", "    " + text.replace("\n", "\n    "))


class Wandb:
    """A run of Weights & Biases, by an id in trackers/wandb.json.

    What was sent cannot be taken back, so the number of entries is kept with the id: after an
    interruption the same bits come again, and as many of them are left out.
    """

    def __init__(self, settings, folder: Path):
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.position = folder / "wandb.json", 0
        self.sent = {"id": uuid.uuid4().hex, "num_entries": 0}
        if self.file.exists():
            self.sent = json.loads(self.file.read_bytes())
        write_json(self.file, self.sent)
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "rawtrain"),
                name=Path(settings.output_dir).absolute().name,
                dir=str(folder),
                config=public_values(settings),
                id=self.sent["id"],
                resume="allow",
            )
        except wandb.Error as error:
            raise ValueError(f"--report_to wandb: {error}; or set WANDB_MODE=offline") from None
        self.run.define_metric("train/global_step")
        self.run.define_metric("*", step_metric="train/global_step")

    def resume(self, history):
        """Go on after the entries of a checkpoint."""
        for entry in history:
            self.add(entry)

    def add(self, entry):
        self.position += 1
        if self.position > self.sent["num_entries"]:
            self.run.log({**trainers_names(entry), "train/global_step": entry["step"]})
            self.sent["num_entries"] = self.position
            write_json(self.file, self.sent)

    def close(self):
        self.run.finish()


def _is_installed(name):
    # a folder "wandb" of results, where the command is started, is no package: it has no origin
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
