"""When a run logs, evaluates, saves and ends: functions of the step alone."""

import math
from dataclasses import dataclass

from rawtrain.config import TrainingSettings
from rawtrain.errors import raise_problems


@dataclass(frozen=True)
class Plan:
    """The events of a run; a step is one optimizer update, and the first is step 1.

    A strategy is "no", "steps" (every so many steps) or "epoch" (at the end of each). As in Trainer
    5.23, the last step is always evaluated and counts as the end of an epoch.
    """

    num_steps: int
    steps_per_epoch: int
    logging: tuple[str, int]  # the strategy, and the number of steps between two "steps" events
    evaluation: tuple[str, int]
    saving: tuple[str, int]

    def logs_at(self, step: int) -> bool:
        return self._due(*self.logging, step)

    def evaluates_at(self, step: int) -> bool:
        strategy, every = self.evaluation
        is_last = step == self.num_steps and strategy != "no"
        return is_last or self._due(strategy, every, step)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is due; after the last step the model itself is saved instead."""
        return step < self.num_steps and self._due(*self.saving, step)

    def _due(self, strategy, every, step):
        if strategy == "steps":
            return step % every == 0
        at_end = step == self.num_steps or step % self.steps_per_epoch == 0
        return strategy == "epoch" and at_end


def check_steps(settings: TrainingSettings, num_rows: int) -> None:
    """Raise ValueError for settings that do not fit a run over this number of rows."""
    num_batches = -(-num_rows // settings.per_device_train_batch_size)
    accumulation, problems = settings.gradient_accumulation_steps, []
    if accumulation > num_batches:
        problems.append(
            f"--gradient_accumulation_steps is {accumulation}, but the training data, {num_rows} "
            f"rows, make {num_batches} micro-batches an epoch; allowed: up to that number"
        )
    num_steps = make_plan(settings, -(-num_batches // accumulation), False).num_steps
    if settings.warmup_steps > num_steps:
        problems.append(
            f"--warmup_steps is {settings.warmup_steps:g}, but the run has {num_steps} steps; "
            f"allowed: up to that number, or a share below 1"
        )
    raise_problems(problems)


def make_plan(settings: TrainingSettings, steps_per_epoch: int, has_validation: bool) -> Plan:
    """The plan of a run of `steps_per_epoch` updates an epoch."""
    num_steps = settings.max_steps
    if num_steps < 0:
        num_steps = math.ceil(settings.num_train_epochs * steps_per_epoch)
    log_every = whole_steps(settings.logging_steps or min(500, max(1, num_steps // 20)), num_steps)
    eval_strategy = (settings.eval_strategy or "epoch") if has_validation else "no"
    eval_every = whole_steps(settings.eval_steps or log_every, num_steps)
    return Plan(
        num_steps,
        steps_per_epoch,
        logging=(settings.logging_strategy, log_every),
        evaluation=(eval_strategy, eval_every),
        saving=(settings.save_strategy, whole_steps(settings.save_steps, num_steps)),
    )


def whole_steps(steps: float, num_steps: int) -> int:
    """The steps that a setting means: below 1 a share of the run, rounded up as in Trainer."""
    return math.ceil(steps * num_steps) if steps < 1 else int(steps)
