"""What a run says of a masked-language model: on standard output and in report.html.

A model that learns only how frequent each token is has adapted little. So the scores of predicting
by frequency stand beside its own. A loss is the mean over masked tokens, in nats.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.config import MlmSettings
from rawtrain.data.columns import IGNORED
from rawtrain.data.text import count_tokens
from rawtrain.errors import dispensable
from rawtrain.evaluation import Evaluation
from rawtrain.results import terminal
from rawtrain.results.files import note, read_history
from rawtrain.results.html import render, write_report
from rawtrain.results.terminal import text_table

NUM_ROWS = 5
LONGEST_SHOWN = 300  # tokens of a row
LARGEST_EXPONENT = 709  # beyond it math.exp overflows
UNTRAINED = "before training"
SCORES = {"loss": ".3f", "perplexity": ",.2f", "accuracy": ".3f"}


def score(evaluation: Evaluation) -> dict[str, float]:
    """The perplexity, and the share of the masked tokens that were predicted."""
    loss = evaluation.loss
    return {
        "perplexity": math.exp(loss) if loss < LARGEST_EXPONENT else math.inf,
        "accuracy": float((evaluation.predictions == evaluation.labels).mean()),
    }


def unigram_scores(counts: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The scores of predicting each token by its frequency in training.

    One is added to every count, so that a token not seen in training has a probability too.
    counts: int [V] of each token in the training rows. labels: int [K] of the masked tokens.
    """
    counts = np.pad(counts, (0, max(0, labels.max() + 1 - len(counts)))) + 1
    loss = float(-np.log(counts / counts.sum())[labels].mean())
    accuracy = float((labels == counts.argmax()).mean())
    return {"eval_loss": loss, "eval_perplexity": math.exp(loss), "eval_accuracy": accuracy}


def adaptation(history: list[dict], unigram: dict[str, float]) -> list[list[str]]:
    """Name, loss, perplexity and accuracy of each evaluation in a log history, and of `unigram`."""
    rows = {
        f"epoch {entry['epoch']:.2f}, step {entry['step']:,}" if entry["step"] else UNTRAINED: entry
        for entry in history
        if "eval_loss" in entry
    }
    rows["token frequency alone"] = unigram
    return [
        [name, *(f"{entry[f'eval_{score}']:{how}}" for score, how in SCORES.items())]
        for name, entry in rows.items()
    ]


def masked_rows(source: MaskedTokens, tokenizer, evaluation: Evaluation) -> Iterator[list]:
    """The rows with a masked token, as the model saw them.

    A token is a text; a masked one is what was seen, what it was, and what the model predicted.
    """
    name, predictions = tokenizer.convert_ids_to_tokens, iter(evaluation.predictions.tolist())
    for number in range(len(source.columns)):
        row = source.tokens(np.array([number]))
        tokens = [
            name(seen) if label == IGNORED else tuple(name([seen, label, next(predictions)]))
            for seen, label in zip(row["input_ids"].tolist(), row["labels"].tolist(), strict=True)
        ]
        if (row["labels"] != IGNORED).any():
            yield tokens


def show_data(splits, encoded, tokenizer, settings: MlmSettings) -> dict[str, dict]:
    """Print what the data is, and how a row begins as the model sees it; returns its figures."""
    terminal.show(f"{name}: {splits[name].source}" for name in encoded)
    figures = {name: describe(splits[name], text) for name, text in encoded.items()}
    terminal.show(["", *terminal.table(figures)])
    columns = next(iter(encoded.values())).columns
    row = MaskedTokens(columns, tokenizer, settings).tokens(np.array([0]), epoch=0)
    name, labels = tokenizer.convert_ids_to_tokens, row["labels"].tolist()
    hidden = ["-" if label == IGNORED else name(label) for label in labels]
    seen = name(row["input_ids"].tolist())
    terminal.show(["", *terminal.example("token", seen, "to predict", hidden)])
    return figures


def describe(documents, encoded) -> dict[str, int]:
    """The figures of a split of documents, and what its reading and encoding left out."""
    lengths = encoded.columns.lengths
    lost = {
        "documents without a token": encoded.num_without_tokens,
        "documents cut": encoded.num_cut_documents,
        "tokens cut off": encoded.num_cut_tokens,
    }
    return {
        "documents": encoded.num_documents,
        "rows": len(lengths),
        "tokens": int(lengths.sum()),
        "longest row, in tokens": int(lengths.max()),
        **documents.left_out,
        **{name: number for name, number in lost.items() if number},
    }


@dispensable("what shows the scores")
def show_scores(settings: MlmSettings, splits, encoded, tokenizer, evaluation: Evaluation) -> None:
    """Print the scores before and after training beside those of token frequencies, if anything was
    trained, and write them with some of the predictions to report.html.

    evaluation: of the validation data, after the training.
    """
    changes = []
    if history := read_history(Path(settings.output_dir)):
        unigram = unigram_scores(count_tokens(encoded["train"].columns), evaluation.labels)
        note(settings.output_dir, unigram=unigram)  # for the model card
        changes = adaptation(history, unigram)
        terminal.show(["", *text_table(["", *SCORES], changes)])
    source, rows = MaskedTokens(encoded["validation"].columns, tokenizer, settings), []
    if not settings.match_trainer:  # whose masks are drawn anew in each evaluation
        rows = list(islice(masked_rows(source, tokenizer, evaluation), NUM_ROWS))
    section = render(
        "mlm.html.jinja",
        source=splits["validation"].source,
        loss=evaluation.loss,
        num_labels=len(evaluation.labels),
        **score(evaluation),
        adaptation=changes,
        rows=rows,
        longest=LONGEST_SHOWN,
    )
    write_report(settings, "validation", section)
