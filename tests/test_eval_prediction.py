"""results/eval_prediction.py: a compute_metrics sees what Trainer would have shown it."""

import numpy as np
import pytest
from conftest import padded, random_rows, tiny_bert
from transformers import Trainer, TrainingArguments

from rawtrain import EvaluationBatches, evaluate, scored_by
from rawtrain.results.eval_prediction import eval_prediction


def trainers(model, columns, collate, tmp_path):
    """The arrays that Trainer hands to compute_metrics, argmaxed on the way."""
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction)
        return {"f1": 0.25}

    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True),
        data_collator=lambda rows: collate(np.array(rows)),
        eval_dataset=list(range(len(columns))),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    return trainer.evaluate(), seen[0]


def test_compute_metrics_is_given_the_arrays_that_trainer_gives_it(settings, tmp_path):
    columns, model = random_rows(), tiny_bert()
    collate = padded(columns)
    theirs, seen_by_trainer = trainers(model, columns, collate, tmp_path)
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction)
        return {"f1": 0.25}

    batches = EvaluationBatches(len(columns), settings(), collate)
    score = scored_by(compute_metrics, columns)
    metrics = evaluate(model, batches, settings()).metrics("eval", score)
    (ours,) = seen
    assert metrics["eval_f1"] == theirs["eval_f1"] == 0.25
    np.testing.assert_array_equal(ours.label_ids, seen_by_trainer.label_ids)
    # Trainer also has the predictions for tokens without a label
    is_scored = ours.label_ids != -100
    np.testing.assert_array_equal(
        ours.predictions[is_scored], seen_by_trainer.predictions[is_scored]
    )
    assert (ours.predictions[~is_scored] == -100).all()


def test_an_evaluation_of_other_rows_is_refused(settings):
    columns = random_rows()
    evaluation = evaluate(
        tiny_bert(), EvaluationBatches(26, settings(), padded(columns)), settings()
    )
    with pytest.raises(ValueError, match="not of these rows"):
        eval_prediction(evaluation, random_rows(seed=1))
