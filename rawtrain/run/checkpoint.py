"""The checkpoints of a run, and its final model.

    checkpoint-<step>/
        model.safetensors, config.json, tokenizer files    the model, for `from_pretrained`
        optimizer.safetensors                              AdamW's moments, by parameter name
        state.json                                         every other number, see run/state.py
        identity.json                                      of which run it is, see run/identity.py
        manifest.json                                      size and sha256 of all of these

Nothing in it is a pickle: to load one may run code. A checkpoint is complete under its name
(run/durable.py), and is verified to the last byte before it is used.
"""

import logging
import re
from pathlib import Path

from transformers import PreTrainedModel

from rawtrain.models.files import check_weight_files
from rawtrain.run import durable, signals
from rawtrain.run.best import best_step
from rawtrain.run.durable import DAMAGED, MANIFEST, DamagedError
from rawtrain.run.identity import IDENTITY_FILE, differences, read_identity
from rawtrain.run.plan import Plan
from rawtrain.run.state import RunState, check_saves, check_weights, load_weights, read_numbers

logger = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-([1-9][0-9]*)", re.ASCII)
WEIGHTS = "model"  # how the names of the files that hold them begin


def save_model(model: PreTrainedModel, tokenizer, folder: str | Path) -> None:
    """Save model and tokenizer into `folder`, beside what else is there; then a manifest of them.

    The weights come last: whatever is in `folder` at an interruption, a model that loads is whole.
    Raises NonFiniteError if a weight is NaN or infinite, RunError if it cannot be written.
    """
    check_saves(model)
    check_weights(model)
    num_bytes = sum(parameter.nbytes for parameter in model.parameters())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with durable.replaced(folder, num_bytes, last=WEIGHTS) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)


class Checkpoints:
    """Where a run keeps its checkpoints, and from which of them it goes on.

    directory: the `run.directory.RunDirectory` of the run; without one nothing is resumed.
    """

    def __init__(self, settings, tokenizer, directory=None):
        self.output_dir = Path(settings.output_dir)
        self.settings = settings
        self.tokenizer = tokenizer
        self.identity = directory.identity if directory else {}
        self.resumes_from = directory.resumes_from if directory else None

    def resume(self, state: RunState) -> None:
        """Bring `state` to where the run was interrupted, if it was."""
        check_saves(state.model)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        if self.resumes_from is not None:
            state.load(self.resumes_from)
            self._keep_to_limit(state)  # the end may have come between a save and its deletion

    def save(self, state: RunState) -> None:
        """Keep the run as checkpoint-<step>; delete the oldest beyond `save_total_limit`.

        Raises NonFiniteError and saves nothing if a loss, gradient or weight is NaN or infinite.
        """
        path = self.output_dir / f"checkpoint-{state.step}"
        durable.enter(path)
        if not path.exists():  # else it was interrupted in the evaluation of this very step
            state.record.check()
            check_weights(state.model)
            with durable.published(path, state.num_bytes) as aside:
                state.save(aside, self.tokenizer)
                durable.write_json(aside / IDENTITY_FILE, self.identity)
        self._keep_to_limit(state)

    def are_due(self, state: RunState, plan: Plan) -> bool:
        """Whether to save after this step: as planned, on a signal, or because it is the best."""
        is_asked = signals.checkpoint_asked()  # at each step, or one request would be met twice
        keeps_best = self.settings.load_best_model_at_end or self.settings.save_strategy == "best"
        is_best = keeps_best and best_step(state.log.history, self.settings) == state.step
        return is_asked or plan.saves_at(state.step) or is_best

    def load_best(self, model: PreTrainedModel, history: list[dict]) -> None:
        """Put the weights of the best evaluation into `model`."""
        path = self.output_dir / f"checkpoint-{best_step(history, self.settings)}"
        durable.verify(path)
        model.load_state_dict(load_weights(model, path))

    def _keep_to_limit(self, state):
        best = best_step(state.log.history, self.settings)
        ours = durable.ours(self.output_dir)
        steps = [step for step, path in in_folder(self.output_dir) if path in ours]
        for step in beyond_limit(steps, self.settings.save_total_limit, best):
            durable.delete(self.output_dir / f"checkpoint-{step}")


def in_folder(output_dir):
    """The checkpoints in a folder as (step, path), the newest first.

    They are those that its run wrote, and copies that somebody put there.
    """
    ours = durable.ours(Path(output_dir))
    there = [p for p in Path(output_dir).iterdir() if p in ours or (p / MANIFEST).exists()]
    found = [(NAME.fullmatch(path.name), path) for path in there]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def verify(path, step, identity):
    """Raise DamagedError unless it is, to the last byte, the checkpoint of `step` of this run."""
    durable.verify(path)
    with durable.reading(path):
        check_weight_files(str(path))
    if (its_step := read_numbers(path)["step"]) != step:
        raise DamagedError(f"{path}: it is the checkpoint of step {its_step}")
    changes = differences(read_identity(path) or {}, identity)
    if changes:
        raise DamagedError(f"{path}: it is of another run ({', '.join(changes)})")


def newest_good(settings, identity):
    """The newest sound checkpoint that this run can go on with; None if there never was one.

    A damaged one is renamed and kept. Raises DamagedError if none is left: to begin again at the
    first step is for a person to decide.
    """
    output_dir = Path(settings.output_dir)
    for step, path in in_folder(output_dir):
        if not _is_sound(path, step, identity):
            continue
        if not settings.load_best_model_at_end:
            return path
        best = best_step(read_numbers(path)["log_history"], settings)
        if best in (None, step) or _is_sound(output_dir / f"checkpoint-{best}", best, identity):
            return path
        # else from one before the best, which is then made again
    if damaged := [path.name for path in durable.ours(output_dir, f"{DAMAGED}*")]:
        raise DamagedError(
            f"{output_dir}: no sound checkpoint is left to go on with; damaged are "
            f"{', '.join(damaged)}. Put a copy of one back as checkpoint-<step>, or begin again "
            f"with --resume_from_checkpoint false"
        )
    return None


def _is_sound(path, step, identity):
    """Whether it is there and whole; if it is damaged, it is set aside."""
    if not path.exists():
        return False
    try:
        verify(path, step, identity)
    except DamagedError as damage:
        logger.warning(f"{damage}; it is kept as {durable.set_aside(path).name}")
        return False
    return True


def beyond_limit(steps, limit, best_step=None):
    """The steps whose checkpoints go, the oldest first: never the newest's, never the best's."""
    if limit is None or not steps:
        return []
    kept = {max(steps), best_step}
    droppable = [step for step in sorted(steps) if step not in kept]
    return droppable[: max(len(steps) - limit, 0)]
