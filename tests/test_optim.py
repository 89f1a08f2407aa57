from typing import get_args

import pytest
import torch
from conftest import tiny_bert
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    Trainer,
    TrainingArguments,
    XLMRobertaConfig,
)

from rawtrain import job
from rawtrain.config import LearningRateSchedule
from rawtrain.optim import decay_groups, learning_rate_schedule, make_optimizer

SMALL = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = [
    BertConfig(**SMALL, intermediate_size=8),
    XLMRobertaConfig(**SMALL, intermediate_size=8),
    ElectraConfig(**SMALL, embedding_size=8, intermediate_size=8),
    AlbertConfig(**SMALL, embedding_size=8, intermediate_size=8),
    DistilBertConfig(vocab_size=50, dim=8, hidden_dim=8, n_layers=2, n_heads=2),
    ModernBertConfig(**SMALL, intermediate_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2),
]


def arguments(tmp_path, **values):
    return TrainingArguments(str(tmp_path), use_cpu=True, **values)


@pytest.mark.parametrize("auto_class", [AutoModelForTokenClassification, AutoModelForMaskedLM])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_the_decayed_parameters_are_trainers_and_each_is_in_one_group(config, auto_class, tmp_path):
    model = auto_class.from_config(config)
    trainer = Trainer(model, arguments(tmp_path, weight_decay=0.1))
    expected = set(trainer.get_decay_parameter_names(model))
    decayed, not_decayed = decay_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == [
        name for name, _ in model.named_parameters() if name in expected
    ]
    ids = [id(p) for group in (decayed, not_decayed) for p in group["params"]]
    assert len(ids) == len(set(ids)) == len(list(model.parameters()))
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.1, 0.0)


def test_a_frozen_parameter_is_in_no_group():
    model = tiny_bert()
    model.bert.embeddings.requires_grad_(False)
    frozen = {id(parameter) for parameter in model.bert.embeddings.parameters()}
    assert not frozen & {id(p) for group in decay_groups(model, 0.1) for p in group["params"]}


def test_the_optimizer_has_the_values_of_trainers(settings, tmp_path):
    values = {"weight_decay": 0.01, "adam_beta1": 0.8, "adam_beta2": 0.99, "adam_epsilon": 1e-7}
    trainer = Trainer(tiny_bert(), arguments(tmp_path, learning_rate=3e-4, **values))
    theirs = trainer.create_optimizer()
    ours = make_optimizer(trainer.model, settings(learning_rate=3e-4, **values))
    assert type(ours) is type(theirs)
    for our_group, their_group in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {k: v for k, v in our_group.items() if k != "params"} == {
            k: v for k, v in their_group.items() if k != "params"
        }
        assert [id(p) for p in our_group["params"]] == [id(p) for p in their_group["params"]]


def test_a_step_in_fp16_does_not_have_the_host_read_whether_gradients_overflowed(
    settings, monkeypatch
):
    model, scaler = tiny_bert(), torch.amp.GradScaler("cpu")
    optimizer = make_optimizer(model, settings())
    before = model.classifier.bias.clone()
    scaler.scale(model(torch.tensor([[7, 8]])).logits.sum()).backward()

    def refused(_):
        raise AssertionError("the host would have to wait for a number on the device")

    monkeypatch.setattr(torch.Tensor, "item", refused)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert not torch.equal(model.classifier.bias, before)


@pytest.mark.parametrize("warmup_steps", [0, 3, 0.25])
@pytest.mark.parametrize("schedule", get_args(LearningRateSchedule))
def test_the_learning_rate_of_every_step_is_trainers(schedule, warmup_steps, settings, tmp_path):
    kwargs = {
        "cosine_with_min_lr": {"min_lr": 1e-6},
        "cosine_warmup_with_min_lr": {"min_lr": 1e-6},
        "warmup_stable_decay": {"num_decay_steps": 4},
        "cosine_with_restarts": {"num_cycles": 2},
    }.get(schedule)
    values = {
        "lr_scheduler_type": schedule,
        "lr_scheduler_kwargs": kwargs,
        "warmup_steps": warmup_steps,
        "learning_rate": 3e-5,
    }
    trainer = Trainer(tiny_bert(), arguments(tmp_path, **values))
    optimizer = trainer.create_optimizer()
    scheduler = trainer.create_scheduler(17, optimizer)
    learning_rate_after = learning_rate_schedule(settings(**values), 17)
    for num_updates in range(17):
        assert learning_rate_after(num_updates) == scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()


def test_the_schedules_are_all_that_are_functions_of_the_step():
    from transformers.trainer_utils import SchedulerType

    stateful = {"reduce_lr_on_plateau", "greedy"}  # these look at the loss
    assert set(get_args(LearningRateSchedule)) == {kind.value for kind in SchedulerType} - stateful


def test_arguments_that_a_schedule_does_not_take_are_refused(settings):
    with pytest.raises(ValueError, match=r"num_wheels.*linear"):
        learning_rate_schedule(settings(lr_scheduler_kwargs={"num_wheels": 4}), 10)


@pytest.mark.parametrize(
    "schedule, kwargs",
    [
        ("linear", {"num_wheels": 4}),
        ("inverse_sqrt", {"timescale": 0}),  # divides by zero when it is made, -1 in a step
        ("inverse_sqrt", {"timescale": -1}),
        ("cosine", {"num_cycles": "two"}),
    ],
)
def test_a_schedule_that_cannot_be_computed_is_refused_before_any_data_is_read(
    schedule, kwargs, settings
):
    chosen = settings(lr_scheduler_type=schedule, lr_scheduler_kwargs=kwargs)
    with pytest.raises(ValueError, match=f"does not suit --lr_scheduler_type {schedule}"):
        job.prepare(chosen)
