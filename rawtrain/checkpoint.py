"""Models on disk: complete under their final name, or not there.

A checkpoint holds the model and its tokenizer and loads with `from_pretrained`.
"""

import os
import shutil
from pathlib import Path


def save_model(model, tokenizer, folder):
    """Save model and tokenizer into `folder`; what stands there changes file by file, at the end.

    Everything is written in a folder beside first, so that an interruption while the large files
    are written leaves what was there before.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = _write_aside(model, tokenizer, folder / ".writing-model")
    for file in sorted(aside.iterdir()):
        os.replace(file, folder / file.name)
    aside.rmdir()


class Checkpoints:
    """The models kept on the way, in folders checkpoint-<step>, and which of them is best."""

    def __init__(self, settings, tokenizer):
        self.output_dir = Path(settings.output_dir)
        self.settings = settings
        self.tokenizer = tokenizer
        self.best_step = self.best_metric = None

    @property
    def best_path(self):
        """The folder of the best model, or None where it was not kept."""
        path = self._path(self.best_step)
        return path if self.best_step and path.is_dir() else None

    def after_evaluation(self, model, step, metrics):
        """Note whether this evaluation is the best so far, and keep the model if that is wanted.

        Raises ValueError if `metrics` lacks the metric that decides.
        """
        settings = self.settings
        if settings.best_metric_key not in metrics:
            found = ", ".join(name.removeprefix("eval_") for name in metrics)
            raise ValueError(
                f"--metric_for_best_model is {settings.metric_for_best_model}; the evaluation "
                f"has: {found}"
            )
        value = metrics[settings.best_metric_key]
        if self.best_metric is not None:
            better = (
                value > self.best_metric if settings.best_is_greater else value < self.best_metric
            )
            if not better:
                return
        self.best_step, self.best_metric = step, value
        if settings.load_best_model_at_end or settings.save_strategy == "best":
            self.save(model, step)

    def save(self, model, step):
        """Keep the model as checkpoint-<step>; delete the oldest beyond `save_total_limit`."""
        path = self._path(step)
        if path.exists():  # an evaluation of this very step kept it
            return
        aside = _write_aside(model, self.tokenizer, self.output_dir / f".writing-{path.name}")
        os.rename(aside, path)
        for step_to_drop in self._beyond_limit():
            doomed = self.output_dir / f".writing-deleted-{step_to_drop}"
            os.rename(
                self._path(step_to_drop), doomed
            )  # gone under its name before it is half gone
            shutil.rmtree(doomed)

    def load_best(self, model):
        """Put the weights of the best evaluation into `model`."""
        best = type(model).from_pretrained(self.best_path, dtype=model.dtype)
        model.load_state_dict(best.state_dict())

    def _path(self, step):
        return self.output_dir / f"checkpoint-{step}"

    def _beyond_limit(self):
        limit = self.settings.save_total_limit
        if limit is None:
            return []
        steps = sorted(
            int(path.name.split("-")[1]) for path in self.output_dir.glob("checkpoint-*")
        )
        droppable = [step for step in steps if step not in (self.best_step, steps[-1])]
        return droppable[: max(len(steps) - limit, 0)]


def _write_aside(model, tokenizer, aside):
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    return aside
