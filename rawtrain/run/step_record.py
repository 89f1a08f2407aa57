"""The numbers of the steps since the last look at the device, and the watch over them.

Reading a number from a GPU stops the program until the GPU has caught up. So losses and gradient
norms stay tensors; a log line, an evaluation or a checkpoint reads those of all steps since the
last one at once, and finds out then whether one of them was NaN or infinite.
"""

import math

import numpy as np
import torch

from rawtrain.errors import RunError

LONGEST_UNREAD = 500  # steps between two looks when nothing is logged
STATE = ("window_steps", "total", "total_steps", "grad_norm", "num_skipped", "num_without_labels")


class NonFiniteError(RunError):
    """A loss, a gradient or a weight became NaN or infinite."""


class StepRecord:
    """`batches` is the run's `TrainingBatches`, asked for the rows of a step that went wrong."""

    def __init__(self, batches):
        self.batches = batches
        self.unread = []  # (step, StepResult), not yet read from the device
        self.window_sum, self.window_steps = np.float32(0), 0  # since the last summary
        self.total, self.total_steps = 0.0, 0  # before it
        self.grad_norm = None  # of the last step; None if fp16 skipped it
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
        if not self.unread:
            return
        losses = [loss for _, result in self.unread for loss in result.losses]
        losses = iter(torch.stack(losses).tolist())
        grad_norms = torch.stack([result.grad_norm for _, result in self.unread]).tolist()
        unread, self.unread = self.unread, []
        for (step, result), grad_norm in zip(unread, grad_norms, strict=True):
            step_losses = [next(losses) for _ in result.losses]
            is_lost = not all(map(math.isfinite, step_losses))
            if result.skipped and not is_lost:
                self.num_skipped += 1
                self.grad_norm = None  # it overflowed; that of the step before is not this one's
                continue
            if is_lost or not math.isfinite(grad_norm):
                raise NonFiniteError(self._what_went_wrong(step, sum(step_losses), grad_norm))
            self.grad_norm = grad_norm
            if result.num_labelled_tokens == 0:
                self.num_without_labels += 1
                continue
            for loss in step_losses:  # one by one in float32: Trainer's sum to the last bit
                self.window_sum += np.float32(loss)
            self.window_steps += 1

    def summary(self):
        """The mean loss since the last summary, the last gradient norm, counts of the whole run."""
        self.check()
        entry = {"loss": float(self.window_sum) / self.window_steps} if self.window_steps else {}
        if self.grad_norm is not None:
            entry["grad_norm"] = self.grad_norm
        if self.num_skipped:
            entry["skipped_steps"] = self.num_skipped
        if self.num_without_labels:
            entry["steps_without_labels"] = self.num_without_labels
        self._close_window()
        return entry

    def state_dict(self):
        """What a resumed run needs of it, as JSON can hold it; nothing may be unread."""
        assert not self.unread
        state = {name: getattr(self, name) for name in STATE}
        return state | {"window_sum": float(self.window_sum)}  # float32: exact in a float

    def load_state_dict(self, state):
        for name in STATE:
            setattr(self, name, state[name])
        self.window_sum = np.float32(state["window_sum"])

    def whole_run(self):
        """The mean loss of all steps of the run that had one; empty if none had."""
        self.check()
        self._close_window()
        return {"train_loss": self.total / self.total_steps} if self.total_steps else {}

    def _close_window(self):
        self.total += float(self.window_sum)
        self.total_steps += self.window_steps
        self.window_sum, self.window_steps = np.float32(0), 0

    def _what_went_wrong(self, step, loss, grad_norm):
        rows = [row for rows in self.batches.rows(step) for row in rows.tolist()]
        return (
            f"step {step} has loss {loss} and gradient norm {grad_norm}. Training stopped, and "
            f"nothing that this step touched was saved. Its rows, counted from 0 in the encoded "
            f"training data: {rows}. If they are sound, try a lower --learning_rate or fp32."
        )
