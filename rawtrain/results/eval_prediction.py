"""A `compute_metrics` that was written for Trainer, as the `score` of `train` and `evaluate`."""

from collections.abc import Callable

import numpy as np
from transformers import EvalPrediction

from rawtrain.data.columns import IGNORED, Columns
from rawtrain.evaluation import Evaluation, Score


def scored_by(
    compute_metrics: Callable[[EvalPrediction], dict[str, float]], columns: Columns
) -> Score:
    """A `score` that returns what `compute_metrics` makes of an `Evaluation`.

    compute_metrics: as Trainer takes it. Its predictions and label_ids are [B, T], -100 where
    nothing is scored. The predictions are ids, the argmax of logits that are not kept;
    `align_predictions` takes both.
    columns: the evaluated rows, with "labels".
    """
    return lambda evaluation: compute_metrics(eval_prediction(evaluation, columns))


def eval_prediction(evaluation: Evaluation, columns: Columns) -> EvalPrediction:
    """The evaluation as Trainer hands it to `compute_metrics`, rows padded to the longest."""
    lengths = columns.lengths
    label_ids = np.full((len(columns), lengths.max()), IGNORED)
    label_ids[np.arange(lengths.max()) < lengths[:, None]] = columns.values["labels"]
    is_scored = label_ids != IGNORED
    if not np.array_equal(label_ids[is_scored], evaluation.labels):
        raise ValueError("the evaluation is not of these rows: its labels are others")
    predictions = np.full_like(label_ids, IGNORED)
    predictions[is_scored] = evaluation.predictions
    return EvalPrediction(predictions=predictions, label_ids=label_ids)
