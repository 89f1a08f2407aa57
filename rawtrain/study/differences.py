"""Where the loop does not follow Trainer unless told to, shown beside Trainer on the same rows.

Part of `python -m rawtrain.study.parity`, which prints what the functions here return: a sentence,
Trainer's numbers, ours, and whether the sentence is true of ours.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer

from rawtrain.batches import EvaluationBatches, TrainingBatches, prepared
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.pad import PaddedRows
from rawtrain.data.columns import IGNORED, Columns, collate_rows
from rawtrain.evaluation import evaluate
from rawtrain.loop import train
from rawtrain.study.parity import SETTINGS, largest_difference, make_collator, make_trainer
from rawtrain.study.tiny import tiny_model, tiny_rows, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


class Shown(NamedTuple):
    sentence: str
    trainer: str
    ours: str
    holds: bool


class Small:
    """A task with a tiny model and random rows, to train on and to evaluate on."""

    def __init__(self, task: str, num_rows: int, **settings: Any) -> None:
        quiet = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
        self.task, self.settings = task, SETTINGS[task](**quiet, **settings)
        self.columns, self.collator = tiny_rows(task, num_rows), make_collator(task, TOKENIZER)

    def model(self) -> PreTrainedModel:
        torch.manual_seed(0)
        return tiny_model(self.task, dropout=0.0 if self.task == "ner" else 0.1)

    def trainer(self) -> Trainer:
        return make_trainer(self.settings, self.model(), self.collator, self.columns, self.columns)

    @property
    def masked(self) -> MaskedTokens:
        special = np.isin(self.columns.values["input_ids"], TOKENIZER.all_special_ids)
        columns = Columns(self.columns.values | {"special": special}, self.columns.offsets)
        return MaskedTokens(columns, TOKENIZER, self.settings)

    def batches(self, kind: Callable) -> Any:
        collate: Callable = partial(collate_rows, self.collator, self.columns)
        if self.task == "mlm":  # Trainer's collator draws, the loop's masks are a function
            collate = PaddedRows(self.masked, TOKENIZER)
        return kind(len(self.columns), self.settings, collate)

    def train(self, model: PreTrainedModel) -> list[dict]:
        eval_batches = self.batches(EvaluationBatches)
        return train(model, self.batches(TrainingBatches), self.settings, eval_batches=eval_batches)

    def eval_loss(self) -> float:
        return evaluate(self.model(), self.batches(EvaluationBatches), self.settings).loss


def accumulation() -> Shown:
    theirs, ours = [], []
    for size, micro_batches in [(8, 1), (4, 2), (2, 4), (1, 8)]:
        split = {"per_device_train_batch_size": size, "gradient_accumulation_steps": micro_batches}
        small = Small("ner", 8, max_steps=1, eval_strategy="no", **split)
        trainer = small.trainer()
        trainer.train()
        theirs.append(trainer.state.log_history[0]["loss"])
        ours.append(small.train(small.model())[0]["loss"])
    return Shown(
        "The loss of the same eight rows does not depend on how accumulation splits them "
        "(8x1, 4x2, 2x4, 1x8).",
        numbers(theirs),
        numbers(ours),
        max(ours) - min(ours) < 1e-6,  # float32 sums in another order
    )


def evaluation_batch_size() -> Shown:
    smalls = [Small("ner", 10, per_device_eval_batch_size=size) for size in (1, 2, 4, 10)]
    ours = [small.eval_loss() for small in smalls]
    return Shown(
        "The evaluation loss does not depend on the evaluation batch size (1, 2, 4, 10).",
        numbers(small.trainer().evaluate()["eval_loss"] for small in smalls),
        numbers(ours),
        max(ours) - min(ours) < 1e-6,  # float32 logits of differently padded rows
    )


def evaluating_while_training() -> Shown:
    their_models, our_models = [], []
    for when in ({"eval_strategy": "no"}, {"eval_strategy": "steps", "eval_steps": 1}):
        small = Small("mlm", 26, per_device_train_batch_size=4, max_steps=6, **when)
        trainer, model = small.trainer(), small.model()
        trainer.train()
        small.train(model)
        their_models.append(trainer.model)
        our_models.append(model)
    ours = largest_difference(*our_models)
    return Shown(
        "Evaluating does not change what is learnt (largest difference of a weight).",
        f"{largest_difference(*their_models):.1e}",
        f"{ours:.1e}",
        ours == 0,
    )


def evaluating_twice() -> Shown:
    small = Small("mlm", 10)
    trainer = small.trainer()
    ours = [small.eval_loss() for _ in range(2)]
    return Shown(
        "Two evaluations of one masked-language model give one number.",
        numbers(trainer.evaluate()["eval_loss"] for _ in range(2)),
        numbers(ours),
        ours[0] == ours[1],
    )


def masks() -> Shown:
    theirs, ours = [], []
    for num_workers in (0, 2):
        small = Small("mlm", 26, dataloader_num_workers=num_workers)
        loader = small.trainer().get_train_dataloader()
        theirs.append([batch["input_ids"] for batch in loader])
        batches = small.batches(TrainingBatches)
        steps = range(1, 2 * batches.steps_per_epoch + 1)
        loaded = prepared(batches, steps, small.settings, torch.device("cpu"))
        ours.append([batch["input_ids"] for step in loaded for batch in step])
    epochs = [small.masked.tokens(np.arange(26), epoch)["labels"] for epoch in (0, 1)]
    is_renewed = bool((epochs[0] != epochs[1]).any())
    same = [all(map(torch.equal, *runs)) for runs in (theirs, ours)]
    return Shown(
        "Masks do not depend on the number of workers, and differ from epoch to epoch.",
        "the same" if same[0] else "others with 2 workers",
        "the same, new each epoch" if same[1] and is_renewed else "not so",
        same[1] and is_renewed,
    )


def no_labels() -> Shown:
    small = Small("ner", 8, max_steps=1, eval_strategy="no")
    small.columns.values["labels"][:] = IGNORED
    trainer = small.trainer()
    trainer.train()
    entry = small.train(small.model())[0]
    return Shown(
        "A step without a single label is neither NaN nor a hidden loss of 0.",
        f"logs loss {trainer.state.log_history[0]['loss']}",
        f"logs no loss and steps_without_labels {entry.get('steps_without_labels')}",
        "loss" not in entry and entry.get("steps_without_labels") == 1,
    )


def numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)


DIFFERENCES = (
    *(accumulation, evaluation_batch_size, evaluating_while_training),
    *(evaluating_twice, masks, no_labels),
)
