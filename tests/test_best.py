"""Which evaluation is best, and when a run that gets no better stops: as Trainer decides."""

import pytest
from hypothesis import given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from rawtrain import NerSettings
from rawtrain.run.best import best_evaluation, stops_early


def history_of(scores, key="eval_loss"):
    """A log with an evaluation at each step, and a line of the loss before each."""
    entries = []
    for step, score in enumerate(scores, start=1):
        entries.append({"loss": 0.1, "step": step})
        entries.append({"eval_loss": 1.0, "eval_f1": 0.5, key: score, "step": step})
    return entries


@pytest.mark.parametrize(
    "overrides, scores, best",
    [
        ({}, [3.0, 1.0, 2.0, 1.0], 2),  # a loss: the smaller, and of equals the first
        ({"metric_for_best_model": "f1"}, [0.1, 0.3, 0.3, 0.2], 2),
        ({"metric_for_best_model": "eval_f1"}, [0.1, 0.3, 0.4, 0.2], 3),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, [0.3, 0.1, 0.2], 2),
        ({"metric_for_best_model": "perplexity"}, [9.0, 5.0, 7.0], 2),
    ],
)
def test_which_evaluation_is_best(overrides, scores, best):
    settings = NerSettings(**overrides)
    found = best_evaluation(history_of(scores, settings.best_metric_key), settings)
    assert (found["step"], found[settings.best_metric_key]) == (best, scores[best - 1])


def test_without_an_evaluation_after_a_step_none_is_best():
    before_training = {"eval_loss": 0.1, "step": 0}
    assert best_evaluation([], NerSettings()) is None
    assert best_evaluation([before_training, {"loss": 1.0, "step": 1}], NerSettings()) is None
    found = best_evaluation([before_training, *history_of([2.0])], NerSettings())
    assert found["step"] == 1


def test_a_metric_that_no_evaluation_has_is_refused_with_what_there_is():
    settings = NerSettings(metric_for_best_model="bleu")
    with pytest.raises(ValueError, match=r"bleu.*loss, f1"):
        stops_early(history_of([1.0]), settings)


def step_of_callback(scores, patience, greater_is_better, tmp_path):
    """The evaluation after which EarlyStoppingCallback ends a training; None if it does not."""
    arguments = TrainingArguments(
        output_dir=tmp_path,
        load_best_model_at_end=True,
        metric_for_best_model="eval_f1",
        greater_is_better=greater_is_better,
        eval_strategy="steps",
        save_strategy="steps",
        use_cpu=True,
    )
    callback = EarlyStoppingCallback(early_stopping_patience=patience)
    state, control = TrainerState(), TrainerControl()
    callback.on_train_begin(arguments, state, control)
    assert arguments.eval_strategy != IntervalStrategy.NO
    for step, score in enumerate(scores, start=1):
        callback.on_evaluate(arguments, state, control, metrics={"eval_f1": score})
        if state.best_metric is None or (
            score > state.best_metric if greater_is_better else score < state.best_metric
        ):
            state.best_metric = score  # Trainer._determine_best_metric, after the callback
        if control.should_training_stop:
            return step
    return None


@drawing(max_examples=60)
@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=10),
    patience=st.integers(1, 4),
    greater=st.booleans(),
)
def test_a_run_stops_where_the_callback_of_trainer_stops_it(
    tmp_path_factory, scores, patience, greater
):
    settings = NerSettings(
        metric_for_best_model="f1", greater_is_better=greater, early_stopping_patience=patience
    )
    stops = [
        number
        for number in range(1, len(scores) + 1)
        if stops_early(history_of(scores[:number], "eval_f1"), settings)
    ]
    expected = step_of_callback(scores, patience, greater, tmp_path_factory.getbasetemp())
    assert (stops[0] if stops else None) == expected


def test_without_patience_no_run_stops():
    assert not stops_early(history_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), NerSettings())
