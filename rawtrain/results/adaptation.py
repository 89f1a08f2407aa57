"""Whether a masked language model was adapted: its evaluations before the training and after it.

A model that learnt nothing but how frequent each token is has adapted to little, so what a count of
the tokens predicts stands beside them. Losses are means over masked tokens, in nats.
"""

import math

import numpy as np

UNTRAINED = "before training"


def score(evaluation):
    """Perplexity, and the share of the masked tokens that were predicted."""
    return {
        "perplexity": math.exp(evaluation.loss),
        "accuracy": float((evaluation.predictions == evaluation.labels).mean()),
    }


def unigram_scores(counts, labels):
    """The scores of predicting each token by its frequency in training.

    One is added to every count, so that a token not seen in training has a probability too.
    counts: int [V] of each token in the training rows. labels: int [K] of the masked tokens.
    """
    counts = np.pad(counts, (0, max(0, labels.max() + 1 - len(counts)))) + 1
    loss = float(-np.log(counts / counts.sum())[labels].mean())
    accuracy = float((labels == counts.argmax()).mean())
    return {"eval_loss": loss, "eval_perplexity": math.exp(loss), "eval_accuracy": accuracy}


def adaptation(history, unigram):
    """The scores of each evaluation of a log history and of a count of tokens, by their names.

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


def adaptation_table(rows):
    """Lines with loss, perplexity and accuracy of what `adaptation` returns."""
    width = max(map(len, rows)) + 2
    lines = [f"{'':<{width}}{'loss':>8}{'perplexity':>12}{'accuracy':>10}"]
    for name, scores in rows.items():
        numbers = f"{scores['eval_loss']:>8.3f}{scores['eval_perplexity']:>12,.2f}"
        lines.append(f"{name:<{width}}{numbers}{scores['eval_accuracy']:>10.3f}")
    return lines
