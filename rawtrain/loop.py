"""The training loop: one step, one evaluation, and the order of events of a run.

What is special about a task comes in from outside: the loss of a micro-batch (`batch_loss`, by
default a sum that serves both jobs) and the scoring of an evaluation (`score`). How a sentence lies
in its micro-batch does not matter here: padded and packed rows (collate/) are trained alike.

Shapes: B rows, T sub-words, C classes (the labels; the vocabulary for masked words), K labelled
tokens: those whose label is not -100. A *step* is one optimizer update, a *micro-batch* one
forward.
"""

import contextlib
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from rawtrain import match_trainer
from rawtrain.batches import prepared
from rawtrain.optim import learning_rate_schedule, make_optimizer, set_learning_rate
from rawtrain.precision import (
    SMALLER_EVALUATION,
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
from rawtrain.run.log import RunLog
from rawtrain.run.plan import make_plan
from rawtrain.run.state import RunState
from rawtrain.run.step_record import NonFiniteError, StepRecord

IGNORED = -100  # the label of a token that has none; cross_entropy leaves it out by default


def summed_cross_entropy(model, batch, labelled):
    """The loss () summed, not averaged, over the labelled tokens, and their logits (K, C).

    labelled: int64 [K], the places of the labelled tokens in the rows laid end to end.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits  # without labels: the model's own mean is the wrong unit
    logits = logits.flatten(0, 1).index_select(0, labelled)
    return label_loss(logits, batch["labels"], labelled), logits


def label_loss(logits, labels, labelled, reduction="sum"):
    """Cross-entropy () summed over the labelled tokens, from their logits (K, C); "none": (K,)."""
    labels = labels.flatten().index_select(0, labelled)
    dtype = torch.promote_types(logits.dtype, torch.float32)  # 16 bits are too few for exponentials
    return F.cross_entropy(logits.to(dtype), labels, reduction=reduction)


@dataclass(frozen=True)
class StepResult:
    """What a step leaves on the device; nobody waits for it until a log line needs the numbers."""

    losses: list[torch.Tensor]  # each () a micro-batch's part of the loss of the step
    grad_norm: torch.Tensor  # () before clipping
    num_labels: int
    skipped: bool  # fp16 only: a gradient overflowed and the weights were left alone


def train_step(model, micro_batches, optimizer, scaler, settings, batch_loss):
    """One update. Its loss is the sum over all labelled tokens of the step, over their number.

    So the same rows give the same gradient whether they come at once or as 8 micro-batches of one.
    A mean of micro-batch means would weigh a token by how few labels stand beside it.
    """
    labelled = [labelled_tokens(micro_batch) for micro_batch in micro_batches]
    num_labels = sum(map(len, labelled))
    divisor = max(num_labels, 1)  # no label in the step: loss 0, gradient 0, never 0/0
    if settings.match_trainer:
        divisor = match_trainer.divisor(model, micro_batches, num_labels)
    losses = []
    model.train()
    for micro_batch, where in zip(micro_batches, labelled, strict=True):
        with explain_out_of_memory(micro_batch, SMALLER_MICRO_BATCHES):
            inputs, where = on_device(micro_batch, where, model.device)
            with autocast(settings, model.device):
                loss_sum, _ = batch_loss(model, inputs, where)
            loss = loss_sum / divisor
            scaler.scale(loss).backward()  # adds to the gradients of the micro-batches before
        losses.append(loss.detach())
    scaler.unscale_(optimizer)  # so that the clip below sees true gradients
    max_norm = settings.max_grad_norm or math.inf  # inf: measured, not clipped
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return StepResult(losses, grad_norm, num_labels, was_skipped(scaler, scale))


@dataclass(frozen=True)
class Evaluation:
    """What a pass over evaluation data found; the arrays are in the order of the data."""

    loss: float  # mean over the labelled tokens of all rows
    labels: np.ndarray  # [K] their labels
    predictions: np.ndarray  # [K] the class with the highest logit
    num_rows: int
    num_batches: int
    runtime_seconds: float
    token_losses: np.ndarray | None = None  # [K] where they were asked for

    def metrics(self, prefix, score=None):
        """The loss, what `score` makes of the predictions, and the speed, under Trainer's keys."""
        scores = {"loss": self.loss, **(score(self) if score else {})}
        return {
            **{f"{prefix}_{name}": value for name, value in scores.items()},
            **speed(prefix, self.runtime_seconds, self.num_rows, self.num_batches),
        }


@torch.no_grad()
def evaluate(model, batches, settings, batch_loss=None, keep_token_losses=False):
    """Evaluate `model` on all rows of `batches`, an `EvaluationBatches`.

    The argmax is taken on the device and only the ids of labelled tokens are kept: memory does not
    grow by a row of logits for each token, and the mean does not depend on the batch size.
    keep_token_losses: keep the loss of each labelled token too, from a second softmax over C.
    """
    start_time = time.perf_counter()
    model.eval()
    batch_loss = batch_loss or default_loss(settings)
    losses, rows, labels, predictions, token_losses = [], [], [], [], []
    for index, batch in enumerate(prepared(batches, range(len(batches)), settings, model.device)):
        labelled = labelled_tokens(batch)
        num_labels = (batch["labels"] != IGNORED).sum(1).numpy()  # of each row
        rows.append(np.repeat(batches.rows(index), num_labels))
        labels.append(batch["labels"].flatten()[labelled])
        if settings.match_trainer:
            match_trainer.tell_num_labels(model, [batch], len(labelled))
        signals.poll()
        with explain_out_of_memory(batch, SMALLER_EVALUATION), autocast(settings, model.device):
            inputs, labelled = on_device(batch, labelled, model.device)
            loss, logits = batch_loss(model, inputs, labelled)
            if keep_token_losses:
                token_losses.append(label_loss(logits, inputs["labels"], labelled, "none"))
        losses.append(loss)
        predictions.append(logits.argmax(-1))
    num_labels = sum(map(len, labels))
    if num_labels == 0:
        raise ValueError("the evaluation data has no labelled token: there is nothing to evaluate")
    losses = torch.stack(losses).cpu()
    loss = losses.sum(dtype=torch.float64).item() / num_labels
    if settings.match_trainer:
        loss = match_trainer.mean_of_rows(losses.numpy(), batches)
    if not math.isfinite(loss):
        wrong = int((~losses.isfinite()).nonzero()[0])
        raise NonFiniteError(
            f"the evaluation has loss {loss}. Its first batch without a finite loss has these "
            f"rows, counted from 0 in the encoded data: {batches.rows(wrong).tolist()}"
        )
    in_order = np.argsort(np.concatenate(rows), kind="stable")  # batches are of like lengths
    return Evaluation(
        loss=loss,
        labels=torch.cat(labels).numpy()[in_order],
        predictions=torch.cat(predictions).cpu().numpy()[in_order],
        num_rows=batches.num_rows,
        num_batches=len(batches),
        runtime_seconds=time.perf_counter() - start_time,
        token_losses=torch.cat(token_losses).cpu().numpy()[in_order] if token_losses else None,
    )


def train(
    model,
    batches,
    settings,
    *,
    eval_batches=None,
    score=None,
    batch_loss=None,
    checkpoints=None,
    log=None,
):
    """Train `model` in place and return the log history, a list of dicts with Trainer's keys.

    batches, eval_batches: `TrainingBatches` and `EvaluationBatches`.
    score: function of an `Evaluation` that returns a dict of floats, such as {"f1": 0.6}.
    batch_loss: function of (model, batch, labelled) as `summed_cross_entropy`, the default.
    checkpoints: a `checkpoint.Checkpoints`, which keeps models on the way and the best one.
    log: a `run.log.RunLog`, which shows and writes the history as it grows.

    Raises NonFiniteError when a loss or a gradient is no number any more, with the step and its
    rows, before weights that it touched are evaluated or saved; and Interrupted, after a
    checkpoint, when a signal asks for the end (run/signals.py).
    """
    plan = make_plan(settings, batches.steps_per_epoch, has_validation=eval_batches is not None)
    model.to(choose_device(settings))
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    optimizer = make_optimizer(model, settings)
    learning_rate_after = learning_rate_schedule(settings, plan.num_steps)
    scaler = make_scaler(settings, model.device)
    batch_loss = batch_loss or default_loss(settings)
    record, log = StepRecord(batches), log or RunLog()
    if settings.match_trainer:
        log.say(match_trainer.GIVEN_UP)
    state = RunState(model, optimizer, scaler, record, log)
    if checkpoints:
        checkpoints.resume(state)
    log.start(plan.num_steps, state.step)

    def add_to_log(entry):
        log.add({**entry, "epoch": batches.epochs_after(state.step), "step": state.step})

    def evaluate_now():
        record.check()
        state.evaluation_due = True  # for the checkpoint of an interruption in the middle of it
        evaluation = evaluate(model, eval_batches, settings, batch_loss)
        state.evaluation_due = False
        add_to_log(evaluation.metrics("eval", score))

    steps = range(state.step + 1, plan.num_steps + 1)
    loader = prepared(batches, steps, settings, model.device)
    with signals.held(), saves_if_interrupted(state, checkpoints):
        if state.evaluation_due:
            evaluate_now()
        is_over = stops_early(log.history, settings)
        for step, micro_batches in zip(steps, loader, strict=True):
            if is_over:
                break
            seed_dropout(settings, step)
            learning_rate = learning_rate_after(state.num_updates)
            set_learning_rate(optimizer, learning_rate)
            result = train_step(model, micro_batches, optimizer, scaler, settings, batch_loss)
            record.add(step, result)
            state.step = step
            state.num_updates += not result.skipped  # the schedule waits; the step's rows are spent
            log.tick(step)

            if plan.logs_at(step):
                add_to_log({**record.summary(), "learning_rate": learning_rate})
            if plan.evaluates_at(step):
                evaluate_now()
                is_over = stops_early(log.history, settings)
            if checkpoints and (plan.saves_at(step) or checkpoints.are_due(state)):
                checkpoints.save(state)
            signals.poll()

    log.close()
    record.check()
    if checkpoints and settings.load_best_model_at_end:
        checkpoints.load_best(model, log.history)
    num_rows = round(batches.epochs_after(state.step) * batches.num_rows)
    rates = speed("train", state.seconds, num_rows, state.step)
    add_to_log({**rates, **record.whole_run()})
    log.finish()
    return log.history


@contextlib.contextmanager
def saves_if_interrupted(state, checkpoints):
    """Keep what was learnt when a signal ends the run: after a step, or while evaluating."""
    try:
        yield
    except signals.Interrupted:
        if checkpoints:
            checkpoints.save(state)
            state.log.say(f"step {state.step} is kept; the same command goes on from there")
        raise


def default_loss(settings):
    return match_trainer.models_own_loss if settings.match_trainer else summed_cross_entropy


def labelled_tokens(micro_batch):
    """Where the labelled tokens [K] stand; found on the host, so nothing waits for the device."""
    return (micro_batch["labels"].flatten() != IGNORED).nonzero().squeeze(1)


def on_device(batch, labelled, device):
    """Both on the device; from pinned memory the copies run beside the computation."""
    batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    return batch, labelled.to(device, non_blocking=True)


def speed(prefix, runtime_seconds, num_rows, num_steps):
    return {
        f"{prefix}_runtime": round(runtime_seconds, 4),
        f"{prefix}_samples_per_second": round(num_rows / runtime_seconds, 3),
        f"{prefix}_steps_per_second": round(num_steps / runtime_seconds, 3),
    }
