"""The loop under --match_trainer beside the installed Trainer: half of study/parity.py."""

import tempfile
from dataclasses import replace

import pytest
import torch
import transformers
from conftest import padded, random_rows, tagged_sentences, tiny_bert, write_conll
from safetensors.torch import load_file

import rawtrain.batches
from rawtrain import ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.data.sources import read_tagged
from rawtrain.job import decide_work
from rawtrain.study import parity
from rawtrain.study.differences import DIFFERENCES
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
    assert compare(Case("mlm")).numbers["weights"] > 0
    assert compare(Case("ner")).numbers["weights"] == 0  # whose collator draws nothing


def test_the_command_ends_with_the_weights_of_run_ners_order_of_events(model_dir, tmp_path):
    """set_seed, model, Trainer(...), train(): the same file as `rawtrain.ner --match_trainer`."""
    file = write_conll(tmp_path / "train.conll", *tagged_sentences(30))
    flags = ["--model_name_or_path", model_dir, "--train_file", file, "--validation_file", file]
    flags += ["--match_trainer", "--use_cpu", "--disable_tqdm", "true", "--num_train_epochs", "2"]
    settings = settings_from(NerSettings, [*flags, "--output_dir", str(tmp_path / "out")])
    ner.main(settings)
    ours = load_file(tmp_path / "out" / "model.safetensors")

    corpus = read_tagged(settings)
    settings = decide_work(settings, corpus.splits)
    tokenizer = ner.make_tokenizer(settings, embedded=None)
    model, label_names = ner.make_model(settings, corpus, tokenizer)  # begins with set_seed
    encoded = ner.encode(settings, corpus.splits, tokenizer, model, label_names)
    trainer = parity.make_trainer(
        replace(settings, eval_strategy="epoch"),
        model,
        transformers.DataCollatorForTokenClassification(tokenizer),
        encoded["train"].columns,
        encoded["validation"].columns,
    )
    trainer.train()
    theirs = trainer.model.state_dict()
    assert set(ours) <= set(theirs)
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_on_a_gpu_every_number_and_every_weight_is_trainers(case, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        assert compare(case, use_cpu=False).equal
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("compared", DIFFERENCES[:-1], ids=lambda compared: compared.__name__)
def test_what_the_loop_does_otherwise_than_trainer_holds(compared):
    shown = compared()  # the last, about time and memory, is left to the command
    assert shown.holds, shown
    assert shown.trainer != shown.ours


def canary(**values):
    columns = random_rows()
    arguments = transformers.TrainingArguments(
        tempfile.gettempdir(), use_cpu=True, disable_tqdm=True, logging_steps=1, max_steps=1,
        save_strategy="no", **values,
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
    what = "gradient accumulation no longer inflates BERT's loss (train_step in loop.py)"
    assert 3.5 < losses[1] / losses[0] < 4.5, MOVED.format(
        version=transformers.__version__, what=what
    )


def test_canary_trainers_evaluation_loss_still_depends_on_the_batch_size():
    losses = {canary(per_device_eval_batch_size=n).evaluate()["eval_loss"] for n in (1, 2, 7)}
    what = "evaluation weighs tokens equally (_mean_loss in evaluation.py)"
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
