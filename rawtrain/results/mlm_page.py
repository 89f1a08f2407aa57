"""What a run says of a masked-language model: on standard output and in report.html."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.config import MlmSettings
from rawtrain.data.text import count_tokens
from rawtrain.evaluation import Evaluation
from rawtrain.results import terminal
from rawtrain.results.adaptation import adaptation, adaptation_table, score, unigram_scores
from rawtrain.results.card import note
from rawtrain.results.files import read_history
from rawtrain.results.html import percent, render, write_report


class MaskedToken(NamedTuple):
    """A token that the model had to predict, and what it predicted."""

    seen: str
    label: str
    label_probability: float
    prediction: str
    prediction_probability: float

    @property
    def is_right(self) -> bool:
        return self.prediction == self.label


class MaskedRow(NamedTuple):
    number: int  # in the data, from 1
    tokens: list[str | MaskedToken]  # as the model saw them; a `MaskedToken` is to be predicted


def write_mlm_report(
    settings: MlmSettings, splits, encoded, evaluation: Evaluation, rows: list[MaskedRow], changes
) -> None:
    """Write report.html with a section for the evaluation.

    rows: what `masked_rows` returns. changes: what `show_adaptation` returns.
    """
    section = render(
        "mlm.html.jinja",
        source=splits["validation"].source,
        loss=evaluation.loss,
        num_labels=len(evaluation.labels),
        **score(evaluation),
        adaptation=changes,
        rows=rows,
        percent=percent,
    )
    figures = {name: terminal.describe_text(splits[name], text) for name, text in encoded.items()}
    write_report(settings, splits, figures, "validation", section)


def show_data(splits, encoded, tokenizer, settings: MlmSettings) -> dict[str, dict]:
    """Print what the data is, and how a row begins as the model sees it; returns its figures."""
    for name in encoded:
        print(f"{name}: {splits[name].source}")
    figures = {name: terminal.describe_text(splits[name], text) for name, text in encoded.items()}
    print("\n" + "\n".join(terminal.table(figures)))
    columns = next(iter(encoded.values())).columns
    first_row = MaskedTokens(columns, tokenizer, settings).tokens(np.array([0]), epoch=0)
    example = terminal.masked_example(tokenizer, first_row["input_ids"], first_row["labels"])
    print("\n" + "\n".join(example))
    return figures


def show_adaptation(output_dir: Path, encoded, evaluation: Evaluation) -> dict[str, dict]:
    """Print the scores before and after training beside those of token frequencies; returns them.

    evaluation: of the validation data, after training. Nothing is shown if nothing was trained.
    """
    history = read_history(output_dir)
    if not history:
        return {}
    unigram = unigram_scores(count_tokens(encoded["train"].columns), evaluation.labels)
    note(output_dir, unigram=unigram)  # for the model card
    changes = adaptation(history, unigram)
    print("\n" + "\n".join(adaptation_table(changes)))
    return changes
