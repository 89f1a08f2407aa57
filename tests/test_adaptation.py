"""The scores before and after training, each under its own name, and those of mere counting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rawtrain.results.mlm_page import UNTRAINED, adaptation, unigram_scores

FEW = st.integers(0, 20)


def entry(step, epoch, loss=2.0):
    scores = {"eval_loss": loss, "eval_perplexity": math.exp(loss), "eval_accuracy": 0.25}
    return scores | {"step": step, "epoch": epoch}


@given(st.lists(FEW, min_size=3, max_size=8), st.lists(FEW, min_size=1, max_size=30))
def test_counting_predicts_as_a_model_whose_logits_are_the_logarithms_of_the_counts(counts, labels):
    found = unigram_scores(np.array(counts), np.array(labels))
    width = max(len(counts), max(labels) + 1)
    seen = torch.tensor(counts + [0] * (width - len(counts)), dtype=torch.float64)
    logits = (seen + 1).log().expand(len(labels), -1)
    loss = F.cross_entropy(logits, torch.tensor(labels)).item()
    assert found["eval_loss"] == pytest.approx(loss, rel=1e-12)  # float64, other order of sums
    assert found["eval_perplexity"] == math.exp(found["eval_loss"])
    share = np.mean([label == int(seen.argmax()) for label in labels])
    assert found["eval_accuracy"] == share


def test_evaluations_within_one_hundredth_of_an_epoch_stay_apart():
    history = [entry(0, 0.0, 10.0), entry(1, 0.001), {"step": 2, "loss": 1.0}, entry(2, 12.502)]
    assert adaptation(history, unigram=entry(None, None)) == [
        [UNTRAINED, "10.000", "22,026.47", "0.250"],
        ["epoch 0.00, step 1", "2.000", "7.39", "0.250"],
        ["epoch 12.50, step 2", "2.000", "7.39", "0.250"],
        ["token frequency alone", "2.000", "7.39", "0.250"],
    ]
