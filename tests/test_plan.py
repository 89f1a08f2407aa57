"""When a run logs, evaluates, saves and ends: the judge is Trainer's own callback handler."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from rawtrain.config import NerSettings
from rawtrain.run.plan import check_steps, make_plan

INTERVALS = st.one_of(st.integers(1, 40), st.floats(0.001, 0.999))
LENGTHS = st.one_of(
    st.builds(dict, num_train_epochs=st.floats(0.05, 4)),
    st.builds(dict, max_steps=st.integers(1, 60)),
)
STRATEGIES = st.sampled_from(["no", "steps", "epoch"])
SETTINGS = st.builds(
    lambda length, **rest: length | rest,
    LENGTHS,
    logging_strategy=STRATEGIES,
    logging_steps=INTERVALS,
    eval_strategy=STRATEGIES,
    eval_steps=st.none() | INTERVALS,
    save_strategy=STRATEGIES,
    save_steps=INTERVALS,
)
EVERY_EPOCH = dict.fromkeys(["logging_strategy", "eval_strategy", "save_strategy"], "epoch")
EVERY_2_STEPS = dict.fromkeys(["logging_steps", "eval_steps", "save_steps"], 2) | {
    "eval_strategy": "steps"
}
many_cases = settings(max_examples=300)


@many_cases
@given(steps_per_epoch=st.integers(1, 15), options=SETTINGS)
@example(steps_per_epoch=5, options={"num_train_epochs": 1.3} | EVERY_EPOCH)
@example(steps_per_epoch=5, options={"max_steps": 7} | EVERY_EPOCH)
@example(steps_per_epoch=3, options={"num_train_epochs": 2} | EVERY_2_STEPS)
def test_a_run_logs_evaluates_saves_and_ends_at_the_steps_of_trainer(steps_per_epoch, options):
    last_step, logs, evaluations, saves = events_of_trainer(steps_per_epoch, options)
    plan = plan_of(steps_per_epoch, **options)

    assert plan.num_steps == last_step
    assert steps_where(plan, plan.logs_at) == logs
    assert steps_where(plan, plan.evaluates_at) == evaluations
    # Trainer also keeps a checkpoint of the last step; here that model is the saved one itself.
    assert steps_where(plan, plan.saves_at) == [step for step in saves if step < last_step]


@many_cases
@given(steps_per_epoch=st.integers(1, 15), options=SETTINGS)
def test_no_checkpoint_is_planned_if_only_the_best_is_kept(steps_per_epoch, options):
    """An evaluation decides then, see `Checkpoints.are_due`."""
    plan = plan_of(steps_per_epoch, **options | {"save_strategy": "best"})
    assert steps_where(plan, plan.saves_at) == []


@pytest.mark.parametrize(
    ("num_steps", "log_every"),
    [(1, 1), (19, 1), (20, 1), (39, 1), (40, 2), (1_000, 50), (10_000, 500), (1_000_000, 500)],
)
def test_a_run_logs_every_500_steps_or_at_least_twenty_times(num_steps, log_every):
    plan = plan_of(num_steps, max_steps=num_steps)
    assert plan.logging == ("steps", log_every)
    assert num_steps // log_every >= min(20, num_steps)


@pytest.mark.parametrize(
    ("options", "has_validation", "evaluations"),
    [
        ({}, True, [5, 10]),
        ({}, False, []),
        ({"eval_strategy": "no"}, True, []),
        ({"eval_strategy": "steps", "eval_steps": 4}, True, [4, 8, 10]),
        ({"eval_strategy": "steps", "logging_steps": 3}, True, [3, 6, 9, 10]),
        ({"eval_strategy": "steps"}, False, []),
    ],
)
def test_by_default_each_epoch_is_evaluated_if_there_is_validation_data(
    options, has_validation, evaluations
):
    plan = plan_of(5, has_validation, num_train_epochs=2, **options)
    assert steps_where(plan, plan.evaluates_at) == evaluations


def plan_of(steps_per_epoch, has_validation=True, **options):
    return make_plan(NerSettings(**options), steps_per_epoch, has_validation)


def steps_where(plan, is_due):
    return [step for step in range(1, plan.num_steps + 1) if is_due(step)]


def events_of_trainer(steps_per_epoch, options):
    """The last step, and the steps at which Trainer 5.23 logs, evaluates and saves.

    Its control flow (_inner_training_loop, _run_epoch and _maybe_log_save_evaluate) around the
    callbacks that decide, without a model.
    """
    args = TrainingArguments(output_dir="unused", use_cpu=True, **options)
    state, control = TrainerState(), TrainerControl()
    handler = CallbackHandler([DefaultFlowCallback], None, None, None, None)
    state.max_steps = args.max_steps
    if args.max_steps < 0:
        state.max_steps = math.ceil(args.num_train_epochs * steps_per_epoch)
    state.compute_steps(args, state.max_steps)
    logs, evaluations, saves = [], [], []

    def log_save_evaluate():
        if control.should_log and state.global_step not in logs:
            logs.append(state.global_step)
            handler.on_log(args, state, control, logs={})
        if control.should_evaluate:
            evaluations.append(state.global_step)
            handler.on_evaluate(args, state, control, metrics={})
        if control.should_save:
            saves.append(state.global_step)
            handler.on_save(args, state, control)

    while not control.should_training_stop:
        handler.on_epoch_begin(args, state, control)
        for _ in range(steps_per_epoch):
            handler.on_step_begin(args, state, control)
            state.global_step += 1
            state.epoch = state.global_step / steps_per_epoch
            handler.on_step_end(args, state, control)
            log_save_evaluate()
            if control.should_training_stop:
                break
        handler.on_epoch_end(args, state, control)
        log_save_evaluate()
    return state.global_step, logs, evaluations, saves


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gradient_accumulation_steps": 4}, "20 rows, make 3 micro-batches an epoch"),
        ({"warmup_steps": 10}, "--warmup_steps is 10, but the run has 9 steps"),
        ({"warmup_steps": 3, "num_train_epochs": 0.5}, "is 3, but the run has 2 steps"),
        ({"warmup_steps": 4, "gradient_accumulation_steps": 3}, "is 4, but the run has 3 steps"),
    ],
)
def test_settings_that_do_not_fit_the_number_of_rows_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        check_steps(NerSettings(**options), num_rows=20)


def test_settings_that_just_fit_the_number_of_rows_are_allowed():
    for options in ({"gradient_accumulation_steps": 3}, {"warmup_steps": 9}, {"warmup_steps": 0.9}):
        check_steps(NerSettings(**options), num_rows=20)
