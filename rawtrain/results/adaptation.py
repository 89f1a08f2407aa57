"""Was a masked language model adapted? Its scores before the training and after it.

A model that learns only how frequent each token is has adapted little. So the scores of predicting
by frequency stand beside its own. A loss is the mean over masked tokens, in nats.
"""

import math

import numpy as np

from rawtrain.evaluation import Evaluation
from rawtrain.results.tables import text_table

UNTRAINED = "before training"


def score(evaluation: Evaluation) -> dict[str, float]:
    """The perplexity, and the share of the masked tokens that were predicted."""
    return {
        "perplexity": math.exp(evaluation.loss),
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


def adaptation(history: list[dict], unigram: dict[str, float]) -> dict[str, dict]:
    """The scores of each evaluation in a log history, and `unigram`, by a name to show.

    >>> before, after = {"step": 0, "eval_loss": 8.0}, {"step": 9, "epoch": 1.5, "eval_loss": 6.0}
    >>> list(adaptation([before, {"step": 9, "loss": 6.1}, after], unigram={"eval_loss": 6.4}))
    ['before training', 'epoch 1.50, step 9', 'token frequency alone']
    """
    evaluations = {
        f"epoch {entry['epoch']:.2f}, step {entry['step']:,}" if entry["step"] else UNTRAINED: entry
        for entry in history
        if "eval_loss" in entry
    }
    return evaluations | {"token frequency alone": unigram}


def adaptation_table(rows: dict[str, dict]) -> list[str]:
    """Lines with loss, perplexity and accuracy of what `adaptation` returns."""
    formats = {"loss": ".3f", "perplexity": ",.2f", "accuracy": ".3f"}
    cells = [
        [title, *(f"{scores[f'eval_{name}']:{how}}" for name, how in formats.items())]
        for title, scores in rows.items()
    ]
    return text_table(["", *formats], cells)
