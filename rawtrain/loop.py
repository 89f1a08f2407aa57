"""The training loop: one step, and the order of events of a run.

What is special about a task comes in from outside: the loss of a micro-batch (`BatchLoss`, loss.py)
and the scoring of an evaluation (`Score`, evaluation.py). How a sentence lies in its micro-batch
does not matter here: padded and packed rows (collate/) are trained alike.

A *step* is one optimizer update, a *micro-batch* one forward. Who remembers what:

    Plan         when to log, evaluate and save     computed from the settings, never stored
    RunState     weights, optimizer, step number    all that training changes: a checkpoint
      StepRecord   losses and gradient norms not yet read from the device, sums since the last log
      RunLog       the log history
"""

import contextlib
import math
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from rawtrain import match_trainer
from rawtrain.batches import EvaluationBatches, TrainingBatches, prepared
from rawtrain.config import TrainingSettings
from rawtrain.evaluation import Score, evaluate, speed
from rawtrain.loss import Batch, BatchLoss, labelled_tokens, on_device, summed_cross_entropy
from rawtrain.optim import learning_rate_schedule, make_optimizer, set_learning_rate
from rawtrain.precision import (
    SMALLER_MICRO_BATCHES,
    autocast,
    choose_device,
    explain_out_of_memory,
    make_scaler,
    was_skipped,
)
from rawtrain.randomness import seed_dropout
from rawtrain.run import signals
from rawtrain.run.best import stops_early
from rawtrain.run.checkpoint import Checkpoints
from rawtrain.run.log import RunLog
from rawtrain.run.plan import make_plan
from rawtrain.run.state import RunState
from rawtrain.run.step_record import StepRecord


def train_step(
    model: PreTrainedModel,
    micro_batches: list[Batch],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    settings: TrainingSettings,
    batch_loss: BatchLoss,
) -> "StepResult":
    """One update. Its loss is the sum over all labelled tokens of the step, over their number.

    So the same rows give the same gradient whether they come at once or as 8 micro-batches of one.
    A mean of micro-batch means would weigh a token by how few labels stand beside it.
    """
    labelled = [labelled_tokens(micro_batch) for micro_batch in micro_batches]
    num_labelled_tokens = sum(map(len, labelled))
    divisor = max(num_labelled_tokens, 1)  # a step without a label: gradient 0, never 0/0
    if settings.match_trainer:  # Trainer leaves the division to a model that takes the number
        told = match_trainer.tell_num_labels(model, micro_batches, num_labelled_tokens)
        divisor = 1 if told else len(micro_batches)
    losses, scale = [], scaler.get_scale()  # fp16: read before the device has work to finish
    model.train()
    for micro_batch, positions in zip(micro_batches, labelled, strict=True):
        with explain_out_of_memory(micro_batch, SMALLER_MICRO_BATCHES):
            inputs, positions = on_device(micro_batch, positions, model.device)
            with autocast(settings, model.device):
                loss_sum, _ = batch_loss(model, inputs, positions)
            loss = loss_sum / divisor
            scaler.scale(loss).backward()  # adds to the gradients of the micro-batches before
        losses.append(loss.detach())
    scaler.unscale_(optimizer)  # so that the clip below sees true gradients
    max_norm = settings.max_grad_norm or math.inf  # inf: measured, not clipped
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return StepResult(losses, grad_norm, num_labelled_tokens, was_skipped(scaler, scale))


def train(
    model: PreTrainedModel,
    batches: TrainingBatches,
    settings: TrainingSettings,
    *,
    batch_loss: BatchLoss = summed_cross_entropy,
    eval_batches: EvaluationBatches | None = None,
    eval_batch_loss: BatchLoss = summed_cross_entropy,
    score: Score | None = None,
    checkpoints: Checkpoints | None = None,
    log: RunLog | None = None,
) -> list[dict]:
    """Train `model` in place and return the log history, a list of dicts with Trainer's keys.

    batch_loss: what is minimised. eval_batch_loss: what evaluations report, a plain cross-entropy.
    score: function of an `Evaluation` that returns a dict of floats, such as {"f1": 0.6}.
    checkpoints: keep the run and its best model, and resume from them.
    log: shows and writes the history as it grows.

    Raises NonFiniteError when a loss or a gradient is NaN or infinite, with the step and its rows,
    before weights that it touched are evaluated or saved; and Interrupted, after a checkpoint, when
    a signal asks for the end (run/signals.py).
    """
    plan = make_plan(settings, batches.steps_per_epoch, has_validation=eval_batches is not None)
    model.to(choose_device(settings))
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    optimizer, scaler = make_optimizer(model, settings), make_scaler(settings, model.device)
    state = RunState(model, optimizer, scaler, StepRecord(batches), log or RunLog())
    if settings.match_trainer:
        batch_loss = match_trainer.models_own_loss
        state.log.say(match_trainer.GIVEN_UP)
    if checkpoints:
        checkpoints.resume(state)

    def evaluate_now():
        state.record.check()
        evaluation = evaluate(model, eval_batches, settings, eval_batch_loss)
        add_to_log(state, batches, evaluation.metrics("eval", score))

    state.log.start(plan.num_steps, state.step)
    with signals.held(), saves_if_interrupted(state, checkpoints):
        train_loop(state, plan, batches, settings, batch_loss, evaluate_now, checkpoints)
    state.record.check()
    if checkpoints and settings.load_best_model_at_end:
        checkpoints.load_best(model, state.log.history)
    num_rows = round(batches.epochs_after(state.step) * batches.num_rows)
    rates = speed("train", state.seconds, num_rows, state.step)
    add_to_log(state, batches, {**rates, **state.record.whole_run()})
    state.log.finish()
    return state.log.history


def train_loop(state, plan, batches, settings, batch_loss, evaluate_now, checkpoints) -> None:
    """The order of events: from the step after `state.step` to the last one."""
    learning_rate_after = learning_rate_schedule(settings, plan.num_steps)
    if plan.evaluates_at(state.step) and not is_evaluated(state.log.history, state.step):
        evaluate_now()  # the run was interrupted in the middle of it
    is_over = stops_early(state.log.history, settings)
    steps = range(state.step + 1, plan.num_steps + 1)
    loader = prepared(batches, steps, settings, state.model.device)
    for step, micro_batches in zip(steps, loader, strict=True):
        if is_over:
            break
        seed_dropout(settings, step)
        learning_rate = learning_rate_after(state.num_updates)
        set_learning_rate(state.optimizer, learning_rate)
        result = train_step(
            state.model, micro_batches, state.optimizer, state.scaler, settings, batch_loss
        )
        state.record.add(step, result)
        state.step = step
        state.num_updates += not result.skipped  # the schedule waits; the step's rows are spent
        state.log.tick(step)

        if plan.logs_at(step):
            add_to_log(state, batches, {**state.record.summary(), "learning_rate": learning_rate})
        if plan.evaluates_at(step):
            evaluate_now()
            is_over = stops_early(state.log.history, settings)
        if checkpoints and checkpoints.are_due(state, plan):
            checkpoints.save(state)
        signals.poll()


@dataclass(frozen=True)
class StepResult:
    """What a step leaves on the device; nobody waits for it until a log line needs the numbers."""

    losses: list[torch.Tensor]  # each () a micro-batch's part of the loss of the step
    grad_norm: torch.Tensor  # () before clipping
    num_labelled_tokens: int
    skipped: bool  # fp16 only: a gradient overflowed and the weights were left alone


def add_to_log(state: RunState, batches: TrainingBatches, entry: dict) -> None:
    state.log.add({**entry, "epoch": batches.epochs_after(state.step), "step": state.step})


def is_evaluated(history: list[dict], step: int) -> bool:
    """Whether the log has the evaluation after `step`; before the first step none is missing."""
    return step == 0 or any(entry["step"] == step and "eval_loss" in entry for entry in history)


@contextlib.contextmanager
def saves_if_interrupted(state: RunState, checkpoints: Checkpoints | None):
    """Keep what was learnt when a signal ends the run: after a step, or while evaluating."""
    try:
        yield
    except signals.Interrupted:
        if checkpoints:
            checkpoints.save(state)
            state.log.say(f"step {state.step} is kept; the same command resumes from there")
        raise
