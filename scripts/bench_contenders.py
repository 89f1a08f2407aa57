"""What is measured: rawtrain, transformers' Trainer and a plain padded loop, each in a process.

A worker builds the model and the data, and then takes turns: after each it reports, and is blocked
on its pipe, without using the processor, until the next one may begin.
"""

import contextlib
import importlib
import itertools
import math
import resource
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from bench_limit import matmul_rates, model_size, useful_flops, wait_for
from torch.utils.data import DataLoader, RandomSampler

from rawtrain import mlm, ner
from rawtrain.batches import TrainingBatches
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.command import settings_from
from rawtrain.config import MlmSettings, NerSettings, uses_own_data
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.fast.cpu import tune_process
from rawtrain.fast.route import choose_route
from rawtrain.fast.vocabulary import compact_vocabulary
from rawtrain.loop import evaluate, train
from rawtrain.optim import num_warmup_steps
from rawtrain.precision import choose_device
from rawtrain.results.files import decide_work
from rawtrain.results.log import RunLog
from rawtrain.results.word_scorer import WordScorer

IGNORED = -100


# What all contenders of a case are given


@dataclass(frozen=True)
class Job:
    """The settings of a command line with the model and the rows that they name."""

    task: str
    settings: Any  # NerSettings or MlmSettings
    tokenizer: Any
    model: Any  # on the device
    split: Any  # TaggedSentences or Documents: what was encoded
    rows: Any  # EncodedWords or EncodedText
    label_names: list[str] | None

    @property
    def columns(self):
        return self.rows.columns

    @property
    def device(self):
        return self.model.device


def prepare(task, flags):
    """The `Job` of a command line, made by the functions that the job itself calls."""
    settings = settings_from(MlmSettings if task == "mlm" else NerSettings, flags)
    with contextlib.redirect_stdout(None):  # what a run says of itself
        job = prepare_mlm(settings) if task == "mlm" else prepare_ner(settings)
    job.model.to(choose_device(settings))
    return job


def prepare_ner(settings):
    embedded = None if uses_own_data(settings) else read_docstring_corpus()
    corpus = ner.embedded_corpus(embedded, settings) if embedded else read_tagged(settings)
    settings = decide_work(settings, corpus.splits)
    tokenizer = ner.make_tokenizer(settings, embedded)
    model, label_names = ner.make_model(settings, corpus, tokenizer)
    split = ner.first_samples(settings, corpus.splits)["train"]
    rows = ner.encode(settings, {"train": split}, tokenizer, model, label_names)["train"]
    return Job("ner", settings, tokenizer, model, split, rows, label_names)


def prepare_mlm(settings):
    own_data = uses_own_data(settings)
    splits = read_documents(settings) if own_data else mlm.embedded_documents(settings)
    settings = decide_work(settings, splits)
    tokenizer = mlm.make_tokenizer(settings, splits)
    model = mlm.make_model(settings, tokenizer)
    rows = mlm.encode(settings, {"train": splits["train"]}, tokenizer, model)["train"]
    return Job("mlm", settings, tokenizer, model, splits["train"], rows, None)


def features_of(task, columns):
    """The rows as dicts of Python lists, as a data set of `datasets` hands them to a collator.

    For masking with the special-tokens mask, as in run_mlm.py: without it transformers' collator
    asks the tokenizer about every token of every batch, which takes longer.
    """
    if task == "ner":
        names = {name: name for name in columns.values}
    else:
        names = {"input_ids": "input_ids", "special_tokens_mask": "special"}
    lists = {}
    for name, column in names.items():
        values = columns.values[column].astype(np.int64)
        lists[name] = [part.tolist() for part in np.split(values, columns.offsets[1:-1])]
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def transformers_collator(job):
    if job.task == "ner":
        return transformers.DataCollatorForTokenClassification(job.tokenizer)
    settings = job.settings
    return transformers.DataCollatorForLanguageModeling(
        job.tokenizer,
        mlm_probability=settings.mlm_probability,
        mask_replace_prob=settings.mask_replace_prob,
        random_replace_prob=settings.random_replace_prob,
    )


class CountingCollator:
    """A collator that notes the real tokens of each batch that it was asked for."""

    def __init__(self, collator):
        self.collator = collator
        self.tokens = []

    def __call__(self, features):
        self.tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return self.collator(features)


# Turns


class Turns:
    """The turns of a worker. The first, which begins when this is made, is for warming up.

    num_steps: the steps of a turn. tokens_of: function from a step, from 1, to its real tokens.
    """

    def __init__(self, connection, device, num_steps, tokens_of):
        self.connection, self.device = connection, device
        self.num_steps, self.tokens_of = num_steps, tokens_of
        self.waited_seconds = self.waited_cpu_seconds = 0.0
        self._begin()

    def step_done(self, step):
        """Note that a step is done; at the end of a turn report it, and wait for the next."""
        if step % self.num_steps:
            return
        wait_for(self.device)
        turn = {
            "seconds": time.perf_counter() - self.start_time,
            "cpu_seconds": time.process_time() - self.start_cpu_time,
            "waited_seconds": self.waited_seconds,  # for this turn
            "waited_cpu_seconds": self.waited_cpu_seconds,
            "tokens": [self.tokens_of(s) for s in range(step - self.num_steps + 1, step + 1)],
        }
        self.connection.send(("turn", turn))
        waits_from, waits_from_cpu = time.perf_counter(), time.process_time()
        self.connection.recv()
        self.waited_seconds = time.perf_counter() - waits_from
        self.waited_cpu_seconds = time.process_time() - waits_from_cpu
        self._begin()

    def _begin(self):
        self.start_time, self.start_cpu_time = time.perf_counter(), time.process_time()


def work(connection, contender, task, flags, num_threads, *arguments):
    """The life of a worker process; a user's mistake is sent instead of raised.

    contender: "module.function", called with the job, the connection and the arguments.
    """
    module, name = contender.split(".")
    contender = getattr(importlib.import_module(module), name)
    if num_threads:
        torch.set_num_threads(num_threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        job = prepare(task, flags)
    except (ValueError, OSError) as mistake:
        connection.send(("mistake", str(mistake)))
        return
    connection.send(("described", describe(job)))
    try:
        found = contender(job, connection, *arguments)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # the main process has ended
        return
    connection.send(("done", found | peak_memory(job.device)))


def work_limit(connection, precisions, use_cpu, num_threads):
    """A worker that measures the machine's limit, alone on the machine, and ends."""
    if num_threads:
        torch.set_num_threads(num_threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")
    found = {"device": device_name(device), "num_threads": torch.get_num_threads()}
    connection.send(("done", found | matmul_rates(precisions, device)))


def describe(job):
    """What the table says of a case."""
    lengths = job.columns.lengths
    config = job.model.config
    return {
        "source": job.split.source,
        "num_rows": len(lengths),
        "mean_length": float(lengths.mean()),
        "longest": int(lengths.max()),
        "model": job.settings.model_name_or_path,
        "architecture": type(job.model).__name__,
        "num_layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "num_parameters": job.model.num_parameters(),
        "settings": vars(job.settings),
    }


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def peak_memory(device):
    """The highest memory of this process so far, in MiB, and of the tensors on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    peak = {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if device.type == "cuda":
        peak["peak_cuda_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


# Training


def token_source(job):
    if job.task == "mlm":
        return MaskedTokens(job.columns, job.tokenizer, job.settings)
    return TaggedTokens(job.columns)


def train_rawtrain(job, connection, steps_per_turn):
    """The loop of the job, prepared as the job prepares it, with a log that takes turns."""
    settings, source, lengths = job.settings, token_source(job), job.columns.lengths
    if settings.is_fast:
        tune_process(job.device)
    route = choose_route(job.model, source, job.tokenizer, settings)
    batches = route.batches("train", source, job.tokenizer, job.model, settings)
    size = model_size(job.model)  # before its vocabulary is made compact

    def tokens_of(step):
        return sum(int(lengths[rows].sum()) for rows in batches.rows(step))

    log = RunLog(disable_tqdm=True)
    turns = Turns(connection, job.device, steps_per_turn, tokens_of)
    log.tick = turns.step_done
    with compact_vocabulary(job.model, job.columns, settings):  # of a masked LM it is whole
        history = train(job.model, batches, settings, batch_loss=route.batch_loss, log=log)
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
    score = mlm.score if job.task == "mlm" else WordScorer(job.rows, job.label_names, job.settings)
    if job.settings.is_fast:
        tune_process(job.device)
    source = token_source(job)
    route = choose_route(job.model, source, job.tokenizer, job.settings)
    batches = route.batches("validation", source, job.tokenizer, job.model, job.settings)
    num_tokens = int(job.columns.lengths.sum())
    turns = Turns(connection, job.device, 1, lambda step: num_tokens)
    for number in range(1, num_evaluations + 1):
        found = evaluate(job.model, batches, job.settings, route.batch_loss)
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
