"""What report.html says of a masked-language model: its losses, and some rows with their masks."""

from typing import NamedTuple

import numpy as np
import torch

from rawtrain.collate.pad import PaddedRows
from rawtrain.data.columns import IGNORED
from rawtrain.loss import labelled_tokens, on_device
from rawtrain.precision import autocast
from rawtrain.results import terminal
from rawtrain.results.confusion_plot import percent
from rawtrain.results.html import render, write_report
from rawtrain.study.probes import read_probes

NUM_ROWS = 5
LONGEST_SEARCH = 100  # rows among which those with a masked token are looked for


class MaskedToken(NamedTuple):
    """A token that the model had to say, and what it said."""

    seen: str
    label: str
    label_probability: float
    prediction: str
    prediction_probability: float

    @property
    def is_right(self):
        return self.prediction == self.label


class MaskedRow(NamedTuple):
    number: int  # in the data, from 1
    tokens: list  # as the model saw them: a str, or a `MaskedToken` where it had to say what was


def write_mlm_report(settings, splits, encoded, evaluation, rows, adaptation):
    """Write report.html with a section for the evaluation.

    rows: what `masked_rows` returns. adaptation: what `adaptation.adaptation` does, or {}.
    """
    changes = read_probes(settings.output_dir)
    general = changes["general"]
    section = render(
        "mlm.html.jinja",
        source=splits["validation"].source,
        loss=evaluation.loss,
        num_labels=len(evaluation.labels),
        accuracy=float((evaluation.predictions == evaluation.labels).mean()),
        perplexity=float(np.exp(evaluation.loss)),
        adaptation=adaptation,
        rows=rows,
        percent=percent,
        probes=[probe for probe in changes["probes"] if "after" in probe],
        general=general if general and "after" in general else None,
    )
    figures = {name: terminal.describe_text(splits[name], text) for name, text in encoded.items()}
    write_report(settings, splits, figures, "validation", section)


@torch.no_grad()
def masked_rows(model, source, tokenizer, settings, batch_loss) -> list[MaskedRow]:
    """The first rows of the data that have a masked token, and what the model makes of these.

    source: the `MaskedTokens` of the data; the masks are those of every evaluation.
    One row at a time: the probabilities of a whole vocabulary for each masked token are many.
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
    best, predictions = (values.tolist() for values in probabilities.max(-1))
    tokens, number = [], 0
    for token, label in zip(
        batch["input_ids"][0].tolist(), batch["labels"][0].tolist(), strict=True
    ):
        if label == IGNORED:
            tokens.append(name(token))
            continue
        of_label = float(probabilities[number, label])
        said = (name(predictions[number]), best[number])
        tokens.append(MaskedToken(name(token), name(label), of_label, *said))
        number += 1
    return tokens
