"""What is measured: rawtrain, transformers' Trainer and a plain padded loop, each in a process."""

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
import transformers
from bench_job import IGNORED, features_of, token_source, transformers_collator
from bench_limit import model_size, useful_flops
from bench_turns import CountingCollator, Turns
from torch.utils.data import DataLoader, RandomSampler

from rawtrain.batches import TrainingBatches
from rawtrain.collate.route import make_batches
from rawtrain.evaluation import evaluate
from rawtrain.fast.cpu import tune_process
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.loop import train
from rawtrain.optim import num_warmup_steps
from rawtrain.results import adaptation
from rawtrain.results.word_scorer import WordScorer
from rawtrain.run.log import RunLog

# Training


def train_rawtrain(job, connection, steps_per_turn):
    """The loop of the job, prepared as the job prepares it, with a log that takes turns."""
    settings, source, lengths = job.settings, token_source(job), job.columns.lengths
    if settings.is_fast:
        tune_process(job.device)
    batches, batch_loss = make_batches(job.model, {"train": source}, job.tokenizer, settings)
    batches = batches["train"]
    size = model_size(job.model)  # before its vocabulary is made compact

    def tokens_of(step):
        return sum(int(lengths[rows].sum()) for rows in batches.rows(step))

    log = RunLog(disable_tqdm=True)
    turns = Turns(connection, job.device, steps_per_turn, tokens_of)
    log.tick = turns.step_done
    with compact_vocabulary(job.model, job.columns, settings):  # of a masked LM it is whole
        history = train(job.model, batches, settings, batch_loss=batch_loss, log=log)
    flops = useful_flops_of_turns(job, size, steps_per_turn)
    return {"losses": logged_losses(history), "flops": flops}


def train_trainer(job, connection, steps_per_turn):
    """transformers' Trainer with the same settings; a callback takes turns."""
    trainer, collator = make_trainer(job)
    turns = Turns(connection, job.device, steps_per_turn, lambda step: collator.tokens[step - 1])

    class TakesTurns(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            turns.step_done(state.global_step)

    trainer.add_callback(TakesTurns())
    trainer.train()
    return {"losses": logged_losses(trainer.state.log_history)}


def make_trainer(job, **more):
    """A quiet Trainer on the job's rows, and its collator.

    It keeps the columns that the model does not take: dropping them, its default, would also drop
    the special-tokens mask, and make its collator slower.
    """
    from rawtrain.study.parity import training_arguments

    collator = CountingCollator(transformers_collator(job))
    features = features_of(job.task, job.columns)
    settings = replace(job.settings, use_cpu=job.device.type == "cpu")  # it asks to be told
    trainer = transformers.Trainer(
        model=job.model,
        args=training_arguments(settings, settings.output_dir, keep_columns=True),
        data_collator=collator,
        train_dataset=features,
        eval_dataset=features,
        **more,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, collator


def train_plain(job, connection, steps_per_turn):
    """A padded loop as one writes it with transformers' parts, and care."""
    settings, model, device = job.settings, job.model, job.device
    collator = CountingCollator(transformers_collator(job))
    batches = plain_batches(features_of(job.task, job.columns), collator, settings)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    scheduler = transformers.get_scheduler(
        settings.lr_scheduler_type,
        optimizer,
        num_warmup_steps(settings.warmup_steps, settings.max_steps),
        settings.max_steps,
    )
    losses, logged = [], []
    model.train()
    turns = Turns(connection, device, steps_per_turn, lambda step: collator.tokens[step - 1])
    for step, batch in enumerate(itertools.islice(batches, settings.max_steps), start=1):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm or math.inf)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        turns.step_done(step)
        if step % steps_per_turn == 0:
            logged.append(torch.stack(losses).mean().item())
            losses.clear()
    return {"losses": logged}


def plain_batches(features, collator, settings):
    """Batches without end, in the order of Trainer's epochs."""
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(settings.seed + epoch)
        yield from DataLoader(
            features,
            batch_size=settings.per_device_train_batch_size,
            sampler=RandomSampler(features, generator=generator),
            collate_fn=collator,
            pin_memory=torch.cuda.is_available() and not settings.use_cpu,
        )


def logged_losses(history):
    return [entry["loss"] for entry in history if "loss" in entry]


def useful_flops_of_turns(job, size, steps_per_turn):
    """The useful work of each turn, whoever takes it."""
    columns = job.columns
    batches = TrainingBatches(len(columns), job.settings, collate=None)
    rows = [np.concatenate(batches.rows(step)) for step in range(1, job.settings.max_steps + 1)]
    turns = [
        np.concatenate(rows[first : first + steps_per_turn])
        for first in range(0, len(rows), steps_per_turn)
    ]
    return [useful_flops(size, columns.lengths[t], num_labels_of(job, t)) for t in turns]


def num_labels_of(job, rows):
    """How many tokens of some rows are predicted; with random masks, how many are on average."""
    where, _ = job.columns.token_index(rows)
    if job.task == "ner":
        return int((job.columns.values["labels"][where] != IGNORED).sum())
    num_maskable = int((~job.columns.values["special"][where]).sum())
    return job.settings.mlm_probability * num_maskable


# Evaluation: a step is an evaluation of all rows, scores included


def evaluate_rawtrain(job, connection, num_evaluations):
    score = (
        adaptation.score
        if job.task == "mlm"
        else WordScorer(job.rows, job.label_names, job.settings)
    )
    if job.settings.is_fast:
        tune_process(job.device)
    sources = {"validation": token_source(job)}
    batches, batch_loss = make_batches(job.model, sources, job.tokenizer, job.settings)
    num_tokens = int(job.columns.lengths.sum())
    turns = Turns(connection, job.device, 1, lambda step: num_tokens)
    for number in range(1, num_evaluations + 1):
        found = evaluate(job.model, batches["validation"], job.settings, batch_loss)
        metrics = found.metrics("eval", score)
        turns.step_done(number)
    num_labels = num_labels_of(job, np.arange(len(job.columns)))
    flops = useful_flops(model_size(job.model), job.columns.lengths, num_labels, passes=1)
    return {"scores": scores_in(metrics), "flops": [flops] * num_evaluations}


def evaluate_trainer(job, connection, num_evaluations):
    scoring = trainers_mlm_scoring() if job.task == "mlm" else trainers_ner_scoring(job)
    trainer, collator = make_trainer(job, **scoring)

    def tokens_of(step):
        num_batches = len(collator.tokens) // step
        return sum(collator.tokens[-num_batches:])

    turns = Turns(connection, job.device, 1, tokens_of)
    for number in range(1, num_evaluations + 1):
        metrics = trainer.evaluate()
        turns.step_done(number)
    return {"scores": scores_in(metrics)}


def trainers_ner_scoring(job):
    """compute_metrics of run_ner.py, which calls seqeval by way of `evaluate`."""
    from seqeval.metrics import accuracy_score, classification_report  # brings in scikit-learn

    def compute_metrics(prediction):
        tags = {"gold": [], "predicted": []}
        predictions = np.argmax(prediction.predictions, axis=2)
        for row, labels in zip(predictions, prediction.label_ids, strict=True):
            pairs = [(p, g) for p, g in zip(row, labels, strict=True) if g != IGNORED]
            tags["predicted"].append([job.label_names[p] for p, _ in pairs])
            tags["gold"].append([job.label_names[g] for _, g in pairs])
        report = classification_report(
            tags["gold"], tags["predicted"], output_dict=True, zero_division=0
        )
        overall = report["micro avg"]
        return {
            "precision": overall["precision"],
            "recall": overall["recall"],
            "f1": overall["f1-score"],
            "accuracy": accuracy_score(tags["gold"], tags["predicted"]),
        }

    return {"compute_metrics": compute_metrics}


def trainers_mlm_scoring():
    """compute_metrics and preprocess_logits_for_metrics of run_mlm.py."""

    def compute_metrics(prediction):
        labels, predictions = prediction.label_ids.reshape(-1), prediction.predictions.reshape(-1)
        masked = labels != IGNORED
        return {"accuracy": float((labels[masked] == predictions[masked]).mean())}

    def argmax(logits, labels):
        return logits.argmax(dim=-1)

    return {"compute_metrics": compute_metrics, "preprocess_logits_for_metrics": argmax}


def scores_in(metrics):
    names = ("loss", "f1", "precision", "recall", "accuracy")
    return {name: float(metrics[f"eval_{name}"]) for name in names if f"eval_{name}" in metrics}
