"""What --match_trainer computes in place of the loop's own arithmetic, as Trainer 5.23 does.

Its draws are made in randomness.py and batches.py. study/parity.py proves the whole, and
study/TRAINER.md says which function of Trainer does what. Shapes: K labelled tokens, C classes.
"""

import inspect
from functools import partial

import numpy as np
import torch
from torch import nn

from rawtrain.batches import EvaluationBatches, TrainingBatches
from rawtrain.collate.mask import DataCollatorForLanguageModeling
from rawtrain.data.columns import collate_rows
from rawtrain.loss import Batch

GIVEN_UP = (
    "--match_trainer gives up speed, resuming, and right gradient accumulation for models that "
    "ignore num_items_in_batch"
)


def models_own_loss(
    model: nn.Module, batch: Batch, labelled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss () as the model computes it, and the logits (K, C) of the labelled tokens."""
    output = model(**batch)
    return output.loss, output.logits.flatten(0, 1).index_select(0, labelled)


def tell_num_labels(model: nn.Module, micro_batches: list[Batch], num_labelled_tokens: int) -> bool:
    """Tell the number to a model whose forward takes any keyword; whether it is such a model.

    Trainer then trusts it to divide its loss by the number. Most encoders ignore it: their mean
    losses are added up, and loss and gradient are too large by the number of micro-batches.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    if not getattr(model, "accepts_loss_kwargs", takes_any):
        return False
    for micro_batch in micro_batches:
        micro_batch["num_items_in_batch"] = torch.tensor(num_labelled_tokens)
    return True


def mean_of_rows(losses: np.ndarray, batches: EvaluationBatches) -> float:
    """The mean over rows of their batch's mean loss, without the rows whose loss is non-finite."""
    num_rows = [len(batches.rows(index)) for index in range(len(batches))]
    row_losses = np.repeat(losses, num_rows)
    return float(row_losses[np.isfinite(row_losses)].mean())


def masked_batches(encoded, tokenizer, settings):
    """Batches of each split for mlm: masked by the collator that run_mlm.py uses, as it draws."""
    collator = DataCollatorForLanguageModeling(
        tokenizer,
        mlm_probability=settings.mlm_probability,
        mask_replace_prob=settings.mask_replace_prob,
        random_replace_prob=settings.random_replace_prob,
    )
    batches = {}
    for name, rows in encoded.items():
        kind = TrainingBatches if name == "train" else EvaluationBatches
        collate = partial(collate_rows, collator, rows.columns.only("input_ids"))
        batches[name] = kind(len(rows.columns), settings, collate)
    return batches
