"""Where the loop does not follow Trainer unless told to, shown beside Trainer on the same rows.

Part of `python -m rawtrain.study.parity`, which prints what the functions here return: a sentence,
Trainer's numbers, ours, and whether the sentence is true of ours.
"""

import resource
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
import transformers

from rawtrain.batches import EvaluationBatches, TrainingBatches, prepared
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.mask import DataCollatorForLanguageModeling
from rawtrain.collate.pad import DataCollatorForTokenClassification, PaddedRows
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.columns import Columns, collate_rows
from rawtrain.data.text import encode_documents
from rawtrain.evaluation import evaluate
from rawtrain.loop import train
from rawtrain.study import parity

QUIET = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}


@dataclass(frozen=True)
class Shown:
    sentence: str
    trainer: str
    ours: str
    holds: bool


def all_differences():
    """Yield what each comparison shows."""
    yield accumulation()
    yield evaluation_batch_size()
    yield evaluating_while_training()
    yield evaluating_twice()
    yield masks()
    yield no_labels()
    yield evaluation_growth()


def accumulation():
    columns, tokenizer = ner_rows(8)
    theirs, ours = [], []
    for size, micro_batches in [(8, 1), (4, 2), (2, 4), (1, 8)]:
        settings = NerSettings(
            **QUIET,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=micro_batches,
            max_steps=1,
        )
        model = partial(ner_model, tokenizer)
        collator = DataCollatorForTokenClassification(tokenizer)
        trainer = parity.run_trainer(settings, model, collator, columns, None, False, False)
        theirs.append(trainer.state.log_history[0]["loss"])
        ours.append(train(model(), training(columns, collator, settings), settings)[0]["loss"])
    return Shown(
        "The loss of the same eight rows does not depend on how accumulation splits them "
        "(8x1, 4x2, 2x4, 1x8).",
        numbers(theirs),
        numbers(ours),
        max(ours) - min(ours) < 1e-6,  # float32 sums in another order
    )


def evaluation_batch_size():
    columns, tokenizer = ner_rows(10)
    collator = DataCollatorForTokenClassification(tokenizer)
    theirs, ours = [], []
    for size in (1, 2, 4, 10):
        settings = NerSettings(**QUIET, per_device_eval_batch_size=size)
        theirs.append(make_trainer(settings, tokenizer, collator, columns).evaluate()["eval_loss"])
        batches = EvaluationBatches(10, settings, partial(collate_rows, collator, columns))
        ours.append(evaluate(ner_model(tokenizer), batches, settings).loss)
    return Shown(
        "The evaluation loss does not depend on the evaluation batch size (1, 2, 4, 10).",
        numbers(theirs),
        numbers(ours),
        max(ours) - min(ours) < 1e-6,  # float32 logits of differently padded rows
    )


def evaluating_while_training():
    case = parity.Case("mlm")
    tokenizer, columns, eval_columns = parity.small_data(case)
    make = partial(parity.small_model, case, tokenizer)
    collator = DataCollatorForLanguageModeling(tokenizer)
    never = MlmSettings(**QUIET, per_device_train_batch_size=4, eval_strategy="no", max_steps=6)
    often = replace(never, eval_strategy="steps", eval_steps=1)
    their_models, our_models = [], []
    for settings, held_out in ((never, None), (often, eval_columns)):
        torch.manual_seed(0)
        trainer = parity.run_trainer(settings, make, collator, columns, held_out, False, False)
        their_models.append(trainer.model)
        torch.manual_seed(0)
        model = make()
        rows, held_out_rows = mlm_rows(tokenizer, 26, 0), mlm_rows(tokenizer, 10, 1)
        train(
            model,
            TrainingBatches(26, settings, masked_rows(rows, tokenizer, settings)),
            settings,
            eval_batches=held_out
            and EvaluationBatches(10, settings, masked_rows(held_out_rows, tokenizer, settings)),
        )
        our_models.append(model)
    theirs, ours = largest_difference(*their_models), largest_difference(*our_models)
    return Shown(
        "Evaluating does not change what is learnt (largest difference of a weight).",
        f"{theirs:.1e}",
        f"{ours:.1e}",
        ours == 0,
    )


def evaluating_twice():
    case = parity.Case("mlm")
    tokenizer, _, eval_columns = parity.small_data(case)
    settings = MlmSettings(**QUIET)
    torch.manual_seed(0)
    model = parity.small_model(case, tokenizer)
    collator = DataCollatorForLanguageModeling(tokenizer)
    trainer = make_trainer(settings, tokenizer, collator, eval_columns, model)
    theirs = [trainer.evaluate()["eval_loss"] for _ in range(2)]
    masking = masked_rows(mlm_rows(tokenizer, 10, 1), tokenizer, settings)
    batches = EvaluationBatches(10, settings, masking)
    ours = [evaluate(model, batches, settings).loss for _ in range(2)]
    return Shown(
        "Two evaluations of one masked-language model give one number.",
        numbers(theirs),
        numbers(ours),
        ours[0] == ours[1],
    )


def masks():
    case = parity.Case("mlm")
    tokenizer, columns, _ = parity.small_data(case)
    collator = DataCollatorForLanguageModeling(tokenizer)
    theirs, ours = [], []
    for num_workers in (0, 2):
        settings = MlmSettings(**QUIET, dataloader_num_workers=num_workers)
        trainer = make_trainer(settings, tokenizer, collator, columns)
        theirs.append([batch["input_ids"] for batch in trainer.get_train_dataloader()])
        masking = masked_rows(mlm_rows(tokenizer, 26, 0), tokenizer, settings)
        batches = TrainingBatches(26, settings, masking)
        steps = range(1, 2 * batches.steps_per_epoch + 1)
        loaded = prepared(batches, steps, settings, torch.device("cpu"))
        ours.append([batch["input_ids"] for step in loaded for batch in step])
    everything = np.arange(26)
    labels = [masking.source.tokens(everything, epoch)["labels"] for epoch in (0, 1)]
    renewed = (labels[0] != labels[1]).any()
    same = [all(map(torch.equal, *runs)) for runs in (theirs, ours)]
    return Shown(
        "Masks do not depend on the number of workers, and differ from epoch to epoch.",
        "the same" if same[0] else "others with 2 workers",
        "the same, new each epoch" if same[1] and renewed else "not so",
        same[1] and bool(renewed),
    )


def no_labels():
    columns, tokenizer = ner_rows(8)
    columns.values["labels"][:] = -100
    collator = DataCollatorForTokenClassification(tokenizer)
    settings = NerSettings(**QUIET, max_steps=1)
    model = partial(ner_model, tokenizer)
    trainer = parity.run_trainer(settings, model, collator, columns, None, False, False)
    entry = train(model(), training(columns, collator, settings), settings)[0]
    return Shown(
        "A step without a single label is neither NaN nor a hidden loss of 0.",
        f"logs loss {trainer.state.log_history[0]['loss']}",
        f"logs no loss and steps_without_labels {entry.get('steps_without_labels')}",
        "loss" not in entry and entry.get("steps_without_labels") == 1,
    )


def evaluation_growth():
    """Rows doubled three times; every measurement in a process of its own, for its peak memory."""
    theirs, ours = [], []
    for num_rows in (1000, 2000, 4000, 8000):
        for whose, found in (("trainer", theirs), ("ours", ours)):
            with get_context("fork").Pool(1) as pool:
                found.append(pool.apply(measure_evaluation, (whose, num_rows)))

    def show(found):
        return ", ".join(f"{seconds:.1f} s {mib:.0f} MiB" for seconds, mib in found)

    time_per_row_grew = ours[-1][0] / ours[0][0] / 8
    memory_grew = ours[-1][1] - ours[0][1]
    return Shown(
        "Evaluation memory stays flat and its time is linear in the rows (1,000 to 8,000 rows: "
        "processor time, memory added).",
        show(theirs),
        show(ours),
        time_per_row_grew < 1.5 and memory_grew < 2,  # MiB; measurement noise
    )


def measure_evaluation(whose, num_rows):
    """Processor seconds and MiB of peak memory that an evaluation of `num_rows` rows takes."""
    torch.set_num_threads(1)
    columns, tokenizer = ner_rows(num_rows)
    settings = NerSettings(**QUIET, per_device_eval_batch_size=8)
    collator = DataCollatorForTokenClassification(tokenizer)
    if whose == "trainer":
        trainer = make_trainer(settings, tokenizer, collator, columns)
        trainer.compute_metrics = lambda predictions: {}  # so that Trainer keeps them, as it does
        run = trainer.evaluate
    else:
        collate = partial(collate_rows, collator, columns)
        batches = EvaluationBatches(num_rows, settings, collate)
        run = partial(evaluate, ner_model(tokenizer), batches, settings)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run()
    seconds = time.process_time() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def ner_rows(num_rows):
    case = parity.Case("ner")
    tokenizer, _, _ = parity.small_data(case)
    return parity.random_rows(case, tokenizer, num_rows, 0), tokenizer


def ner_model(tokenizer):
    torch.manual_seed(0)
    return parity.small_model(parity.Case("ner"), tokenizer, dropout=0.0)


def mlm_rows(tokenizer, num_rows, seed) -> Columns:
    texts = parity.random_texts(num_rows, seed)
    return encode_documents(tokenizer, texts, 40, line_by_line=True).columns


def masked_rows(columns, tokenizer, settings):
    return PaddedRows(MaskedTokens(columns, tokenizer, settings), tokenizer)


def training(columns, collator, settings):
    return TrainingBatches(len(columns), settings, partial(collate_rows, collator, columns))


def make_trainer(settings, tokenizer, collator, columns, model=None):
    rows = [parity.columns_row(columns, row) for row in range(len(columns))]
    trainer = transformers.Trainer(
        model or ner_model(tokenizer),
        # Trainer makes the folder, and writes nothing into it
        parity.training_arguments(settings, tempfile.gettempdir()),
        data_collator=collator,
        train_dataset=rows,
        eval_dataset=rows,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def largest_difference(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((left - right).abs().max().item() for left, right in pairs)


def numbers(values):
    return " ".join(f"{value:.5f}" for value in values)
