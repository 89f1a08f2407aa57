"""What a masked language model predicts at the masks of an evaluation: some rows to look at."""

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.collate.pad import PaddedRows
from rawtrain.collate.tokens import TokenSource
from rawtrain.config import TrainingSettings
from rawtrain.data.columns import IGNORED
from rawtrain.loss import BatchLoss, labelled_tokens, on_device
from rawtrain.precision import autocast
from rawtrain.results.mlm_page import MaskedRow, MaskedToken

NUM_ROWS = 5
LONGEST_SEARCH = 100  # rows that are searched for masked tokens


@torch.no_grad()
def masked_rows(
    model: PreTrainedModel,
    source: TokenSource,
    tokenizer: PreTrainedTokenizerFast,
    settings: TrainingSettings,
    batch_loss: BatchLoss,
) -> list[MaskedRow]:
    """The first rows of the data that have a masked token, and what the model predicts for these.

    source: the `MaskedTokens` of the data; the masks are those of every evaluation.
    Each row is a batch of its own, since each masked token has a probability for each word of the
    vocabulary.
    """
    model.eval()
    rows, collate = [], PaddedRows(source, tokenizer)
    for number in range(min(LONGEST_SEARCH, len(source.columns))):
        batch = collate(np.array([number]))
        labelled = labelled_tokens(batch)
        if not len(labelled) or len(rows) == NUM_ROWS:
            continue
        inputs, where = on_device(batch, labelled, model.device)
        with autocast(settings, model.device):
            _, logits = batch_loss(model, inputs, where)
        probabilities = logits.float().softmax(-1).cpu()
        rows.append(MaskedRow(number + 1, _tokens(tokenizer, batch, probabilities)))
    return rows


def _tokens(tokenizer, batch, probabilities):
    """The tokens of the only row of a batch, from the probabilities [K, V] of its labelled ones."""
    name = tokenizer.convert_ids_to_tokens
    ids, labels = (batch[key][0].tolist() for key in ("input_ids", "labels"))
    tokens, at_masks = [], iter(probabilities)
    for token, label in zip(ids, labels, strict=True):
        if label == IGNORED:
            tokens.append(name(token))
            continue
        of_tokens = next(at_masks)
        best, prediction = of_tokens.max(-1)
        of_label, said = float(of_tokens[label]), name(int(prediction))
        tokens.append(MaskedToken(name(token), name(label), of_label, said, float(best)))
    return tokens
