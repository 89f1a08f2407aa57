"""One pass over evaluation data: a plain mean loss, and one prediction for each labelled token.

The evaluation loss is the cross-entropy per labelled token, whatever the training loss is, so
evaluations of differently trained models can be compared. Shapes as in loss.py: K labelled tokens.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from rawtrain import match_trainer
from rawtrain.batches import EvaluationBatches, prepared
from rawtrain.config import TrainingSettings
from rawtrain.data.columns import IGNORED
from rawtrain.loss import BatchLoss, label_loss, labelled_tokens, on_device, summed_cross_entropy
from rawtrain.precision import SMALLER_EVALUATION, autocast, explain_out_of_memory
from rawtrain.run import signals
from rawtrain.run.step_record import NonFiniteError


@dataclass(frozen=True)
class Evaluation:
    """What a pass over evaluation data found; the arrays are in the order of the data."""

    loss: float  # mean over the labelled tokens of all rows
    labels: np.ndarray  # [K] their labels
    predictions: np.ndarray  # [K] the class with the highest logit
    num_rows: int
    num_batches: int
    runtime_seconds: float
    token_losses: np.ndarray | None = None  # [K], if `evaluate` was asked to keep them

    def metrics(self, prefix: str, score: "Score | None" = None) -> dict[str, float]:
        """The loss, what `score` makes of the predictions, and the speed, under Trainer's keys."""
        scores = {"loss": self.loss, **(score(self) if score else {})}
        return {
            **{f"{prefix}_{name}": value for name, value in scores.items()},
            **speed(prefix, self.runtime_seconds, self.num_rows, self.num_batches),
        }


Score = Callable[[Evaluation], dict[str, float]]  # such as {"f1": 0.6}


@torch.no_grad()
def evaluate(
    model: PreTrainedModel,
    batches: EvaluationBatches,
    settings: TrainingSettings,
    batch_loss: BatchLoss = summed_cross_entropy,
    keep_token_losses: bool = False,
) -> Evaluation:
    """Evaluate `model` on all rows of `batches`.

    The argmax is taken on the device and only the ids of labelled tokens are kept: memory does not
    grow by a row of logits for each token, and the mean does not depend on the batch size.

    batch_loss: a plain cross-entropy; fast/head.py has a faster one.
    keep_token_losses: keep the loss of each labelled token too, from a second softmax over C.
    Raises ValueError without a labelled token, NonFiniteError if the loss is NaN or infinite.
    """
    start_time = time.perf_counter()
    model.eval()
    if settings.match_trainer:
        batch_loss = match_trainer.models_own_loss
    losses, row_of_label, labels, predictions, token_losses = [], [], [], [], []
    for index, batch in enumerate(prepared(batches, range(len(batches)), settings, model.device)):
        labelled = labelled_tokens(batch)
        num_labelled_in_row = (batch["labels"] != IGNORED).sum(1).numpy()
        row_of_label.append(np.repeat(batches.rows(index), num_labelled_in_row))
        labels.append(batch["labels"].flatten()[labelled])
        if settings.match_trainer:
            match_trainer.tell_num_labels(model, [batch], len(labelled))
        signals.poll()
        with explain_out_of_memory(batch, SMALLER_EVALUATION), autocast(settings, model.device):
            inputs, labelled = on_device(batch, labelled, model.device)
            loss_sum, logits = batch_loss(model, inputs, labelled)
            if keep_token_losses:
                token_losses.append(label_loss(logits, inputs["labels"], labelled, "none"))
        losses.append(loss_sum)
        predictions.append(logits.argmax(-1))
    in_order = np.argsort(np.concatenate(row_of_label), kind="stable")  # batches sort by length
    return Evaluation(
        loss=_mean_loss(torch.stack(losses).cpu(), len(in_order), batches, settings),
        labels=torch.cat(labels).numpy()[in_order],
        predictions=torch.cat(predictions).cpu().numpy()[in_order],
        num_rows=batches.num_rows,
        num_batches=len(batches),
        runtime_seconds=time.perf_counter() - start_time,
        token_losses=torch.cat(token_losses).cpu().numpy()[in_order] if token_losses else None,
    )


def _mean_loss(losses, num_labelled_tokens, batches, settings):
    """The mean loss over labelled tokens, from the sums of the batches."""
    if num_labelled_tokens == 0:
        raise ValueError("the evaluation data has no labelled token: there is nothing to evaluate")
    loss = losses.sum(dtype=torch.float64).item() / num_labelled_tokens
    if settings.match_trainer:
        loss = match_trainer.mean_of_rows(losses.numpy(), batches)
    if not math.isfinite(loss):
        wrong = int((~losses.isfinite()).nonzero()[0])
        raise NonFiniteError(
            f"the evaluation has loss {loss}. Its first batch without a finite loss has these "
            f"rows, counted from 0 in the encoded data: {batches.rows(wrong).tolist()}"
        )
    return loss


def speed(prefix: str, runtime_seconds: float, num_rows: int, num_steps: int) -> dict[str, float]:
    """Run time in seconds and the rates, under Trainer's keys."""
    return {
        f"{prefix}_runtime": round(runtime_seconds, 4),
        f"{prefix}_samples_per_second": round(num_rows / runtime_seconds, 3),
        f"{prefix}_steps_per_second": round(num_steps / runtime_seconds, 3),
    }
