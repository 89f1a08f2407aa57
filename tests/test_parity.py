"""The loop under --match_trainer beside the installed Trainer: half of study/parity.py."""

import pytest
import torch
import transformers
from conftest import padded, random_rows, tiny_bert

import rawtrain.batches
from rawtrain.study.parity import CASES, Case, compare

MOVED = (
    "Trainer {version} does not do what Trainer 5.23.0 did, which --match_trainer follows. "
    "What moved: {what}. rawtrain/study/TRAINER.md says which line of ours to look at."
)


@pytest.fixture(autouse=True)
def one_thread_and_quiet():
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity_warning()


@pytest.mark.parametrize("case", CASES[::2], ids=lambda case: case.name)
def test_every_number_and_every_weight_is_trainers(case):
    found = compare(case)
    assert found.equal, MOVED.format(version=transformers.__version__, what=found)


def test_without_the_look_ahead_masks_and_dropout_are_drawn_in_another_order(monkeypatch):
    """So the comparison sees an error that small."""
    monkeypatch.setattr(rawtrain.batches, "_one_ahead", iter)
    assert compare(Case("mlm")).weights > 0
    assert compare(Case("ner")).weights == 0  # whose collator draws nothing


def canary(**values):
    columns = random_rows()
    arguments = transformers.TrainingArguments(
        "unused", use_cpu=True, disable_tqdm=True, logging_steps=1, max_steps=1, save_strategy="no",
        **values,
    )  # fmt: skip
    return transformers.Trainer(
        tiny_bert(),
        arguments,
        data_collator=lambda rows: padded(columns)(rows),
        train_dataset=range(8),
        eval_dataset=range(7),
    )


def test_canary_trainer_still_multiplies_the_loss_by_the_micro_batches():
    losses = []
    for size, accumulation in [(8, 1), (2, 4)]:
        trainer = canary(per_device_train_batch_size=size, gradient_accumulation_steps=accumulation)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    what = "gradient accumulation no longer inflates BERT's loss (trainers_divisor in loop.py)"
    assert 3.5 < losses[1] / losses[0] < 4.5, MOVED.format(
        version=transformers.__version__, what=what
    )


def test_canary_trainers_evaluation_loss_still_depends_on_the_batch_size():
    losses = {canary(per_device_eval_batch_size=n).evaluate()["eval_loss"] for n in (1, 2, 7)}
    what = "evaluation weighs tokens equally (the reduction of evaluate in loop.py)"
    assert len(losses) == 3, MOVED.format(version=transformers.__version__, what=what)


def test_canary_trainer_still_seeds_when_it_is_built_and_draws_when_it_iterates():
    torch.manual_seed(99)
    trainer = canary(seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    what = "Trainer(...) no longer seeds the global generator"
    assert torch.equal(state, torch.get_rng_state()), MOVED.format(
        version=transformers.__version__, what=what
    )
    iter(trainer.get_eval_dataloader())
    iterator = iter(trainer.get_eval_dataloader())
    next(iterator)
    what = "iterating over a loader no longer draws from the global generator (_loader, batches.py)"
    assert not torch.equal(state, torch.get_rng_state()), MOVED.format(
        version=transformers.__version__, what=what
    )
