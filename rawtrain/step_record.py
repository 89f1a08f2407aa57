"""The numbers of the steps since the last look at the device, and the watch over them.

Reading a number from a GPU stops the program until the GPU has caught up. So losses and gradient
norms stay tensors; a log line, an evaluation or a checkpoint reads those of all steps since the
last one at once, and finds then whether one of them was no number.
"""

import math

import torch

LONGEST_UNREAD = 500  # steps between two looks when nothing is logged


class NonFiniteError(RuntimeError):
    """A loss or a gradient became infinite or no number at all."""


class StepRecord:
    """`batches` is the run's `TrainingBatches`, asked for the rows of a step that went wrong."""

    def __init__(self, batches):
        self.batches = batches
        self.unread = []  # (step, StepResult), not yet read from the device
        self.logged_from = []  # losses (float) read since the last summary
        self.last_grad_norm = None
        self.loss_total, self.num_losses = 0.0, 0
        self.num_skipped = self.num_without_labels = 0

    def add(self, step, result):
        self.unread.append((step, result))
        if len(self.unread) >= LONGEST_UNREAD:
            self.check()

    def check(self):
        """Read what is unread; raise NonFiniteError if it holds anything but finite numbers.

        A step that the scaler skipped is counted instead: its weights were left alone. A step
        without a single label has no loss, and is counted too rather than averaged in as a 0.
        """
        steps = [step for step, _ in self.unread]
        results = [result for _, result in self.unread]
        self.unread = []
        if not results:
            return
        losses = torch.stack([result.loss for result in results]).tolist()
        grad_norms = torch.stack([result.grad_norm for result in results]).tolist()
        for step, result, loss, grad_norm in zip(steps, results, losses, grad_norms, strict=True):
            if result.skipped:
                self.num_skipped += 1
                continue
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                raise NonFiniteError(self._what_went_wrong(step, loss, grad_norm))
            self.last_grad_norm = grad_norm
            if result.num_labels == 0:
                self.num_without_labels += 1
                continue
            self.logged_from.append(loss)
            self.loss_total += loss
            self.num_losses += 1

    def summary(self):
        """The part of a log entry that covers the steps since the last summary."""
        self.check()
        entry = {}
        if self.logged_from:
            entry["loss"] = sum(self.logged_from) / len(self.logged_from)
        if self.last_grad_norm is not None:
            entry["grad_norm"] = self.last_grad_norm
        if self.num_skipped:
            entry["skipped_steps"] = self.num_skipped
        if self.num_without_labels:
            entry["steps_without_labels"] = self.num_without_labels
        self.logged_from = []
        return entry

    def mean_loss_of_all(self):
        """The mean loss of all steps of the run that had one; NaN if none had."""
        self.check()
        return self.loss_total / self.num_losses if self.num_losses else math.nan

    def _what_went_wrong(self, step, loss, grad_norm):
        rows = [row for rows in self.batches.rows(step) for row in rows.tolist()]
        return (
            f"step {step} has loss {loss} and gradient norm {grad_norm}. Training stopped, and "
            f"nothing that this step touched was saved. Its rows, counted from 0 in the encoded "
            f"training data: {rows}. If they are sound, try a lower --learning_rate or fp32."
        )
