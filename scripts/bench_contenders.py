"""What takes turns in bench.py: rawtrain, whole or in part, and Trainer, each in its process."""

import contextlib
import logging
import resource
import signal
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from bench_limit import model_size, useful_flops, wait_for

from rawtrain import TrainingBatches, evaluate, fresh_model, train
from rawtrain.collate import route
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.data.columns import IGNORED
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.data.text import encode_documents
from rawtrain.data.words import encode_words
from rawtrain.errors import RunError
from rawtrain.fast import cpu, vocabulary
from rawtrain.models.loading import check_length, load_config, load_model
from rawtrain.models.tokenizers import load_tokenizer, load_word_tokenizer
from rawtrain.precision import choose_device
from rawtrain.results import mlm_page
from rawtrain.results.word_scorer import WordScorer
from rawtrain.run.log import RunLog
from rawtrain.study.parity import training_arguments

# The parts of rawtrain/fast, and how each is switched off: by settings, or by another function in
# the place of the one that a module calls.
PARTS = {
    "without rawtrain/fast": {"fast": False},  # the padded loop, written with care
    "without packed rows": {"padding": True},
    "without row attention": (route, "ROW_ATTENTION", "sdpa"),
    "without fast dropout": (route, "use_fast_dropout", lambda model: None),
    "head at all tokens": (route, "cross_entropy_at_labels", None),  # which the probe turns down
    "whole vocabulary": (vocabulary, "compact_vocabulary", lambda *_: contextlib.nullcontext()),
    "malloc as it is": (cpu, "keep_freed_memory", lambda: None),
    "float32 by MKL": (cpu, "use_fastest_true_float32", lambda: None),
}


@dataclass(frozen=True)
class Job:
    """What both sides are given. `source` and `score` are rawtrain's, for batches and metrics."""

    settings: Any
    tokenizer: Any
    model: Any  # on the device
    columns: Any  # the encoded rows
    label_names: list[str] | None  # of ner
    source: Any
    score: Any


def work(connection, contender, settings, evaluates):
    """The life of a process: it sends the seconds of each turn, and in the end what it found.

    A turn is `settings.logging_steps` steps, of `settings.max_steps`; when it evaluates, a step is
    an evaluation of all rows. A mistake of the user's is sent as an exception.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the others
    logging.basicConfig(format=f"{contender}: %(message)s", level="ERROR")
    logging.getLogger(route.__name__).setLevel("INFO")  # it says how the rows are laid out
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if contender in PARTS:
        settings = without(contender, settings)
    try:
        job = prepare(settings)
    except (ValueError, OSError) as mistake:
        connection.send(ValueError(str(mistake)))
        return
    size, rows = model_size(job.model), rows_of_steps(job, evaluates)
    lengths = job.columns.lengths
    tokens = [int(lengths[step].sum()) for step in rows]
    turns = Turns(connection, job.model.device, settings.logging_steps)
    if contender == "Trainer":
        result, counted = by_trainer(job, turns, evaluates)
        if not evaluates and counted != tokens:  # of random rows; equal numbers are equal rows
            connection.send(RunError(f"other rows: {counted} tokens in Trainer's steps, {tokens}"))
            return
    else:
        result = by_rawtrain(job, turns, evaluates)
    passes = 1 if evaluates else 3
    flops = [useful_flops(size, lengths[step], num_labels(job, step), passes) for step in rows]
    found = {"described": describe(job), "steps": settings.logging_steps, "result": result}
    found |= {"tokens": turns.sums(tokens), "flops": turns.sums(flops)}
    connection.send(found | peak_memory(job.model.device))


def without(part, settings):
    """Switch a part off, in this process; returns the settings that do so."""
    if isinstance(PARTS[part], dict):
        return replace(settings, **PARTS[part])
    patch.object(*PARTS[part]).start()  # an error if the module has no such name
    return settings


class Turns:
    """The turns of a process. The first, which begins when this is made, is for warming up."""

    def __init__(self, connection, device, num_steps):
        self.connection, self.device, self.num_steps = connection, device, num_steps
        self.start_time = time.perf_counter()

    def step_done(self, step):
        """At the end of a turn, report it and sleep until the next one may begin."""
        if step % self.num_steps == 0:
            wait_for(self.device)
            self.connection.send(time.perf_counter() - self.start_time)
            self.connection.recv()
            self.start_time = time.perf_counter()

    def sums(self, values_of_steps):
        """A sum for each turn."""
        return np.reshape(values_of_steps, (-1, self.num_steps)).sum(1).tolist()


# The two sides


def by_rawtrain(job, turns, evaluates):
    """As in ner.py and mlm.py; returns in words how it ended."""
    settings, model, split = job.settings, job.model, "validation" if evaluates else "train"
    if settings.is_fast:
        cpu.tune_process(model.device)
    batches, batch_loss = route.make_batches(model, {split: job.source}, job.tokenizer, settings)
    if not evaluates:
        log = RunLog(disable_tqdm=True)
        log.tick = turns.step_done
        with vocabulary.compact_vocabulary(model, job.columns, settings):
            history = train(model, batches[split], settings, batch_loss=batch_loss, log=log)
        return last_loss(history)
    for step in range(1, settings.max_steps + 1):
        found = evaluate(model, batches[split], settings, batch_loss)
        metrics = found.metrics("eval", job.score)
        turns.step_done(step)
    return scores_in(metrics)


def by_trainer(job, turns, evaluates):
    """Trainer with the same settings and rows; returns the real tokens of its batches too.

    It keeps the columns that the model does not take: without the mask of special tokens its
    collator would ask the tokenizer about every token, and be slower.
    """
    settings, features = job.settings, features_of(job)
    settings = replace(settings, use_cpu=job.model.device.type == "cpu")  # it asks to be told
    collator = CountingCollator(transformers_collator(job))
    trainer = transformers.Trainer(
        model=job.model,
        args=training_arguments(settings, settings.output_dir),
        data_collator=collator,
        train_dataset=features,
        eval_dataset=features,
        compute_metrics=partial(scores_as_scripts, job.label_names),
        preprocess_logits_for_metrics=None if job.label_names else argmax,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if not evaluates:
        callback = transformers.TrainerCallback()
        callback.on_step_end = lambda args, state, control, **_: turns.step_done(state.global_step)
        trainer.add_callback(callback)
        trainer.train()
        return last_loss(trainer.state.log_history), collator.tokens[: settings.max_steps]
    for step in range(1, settings.max_steps + 1):
        metrics = trainer.evaluate()
        turns.step_done(step)
    return scores_in(metrics), collator.tokens


class CountingCollator:
    """A collator that notes the real tokens of each batch that it is asked for."""

    def __init__(self, collator):
        self.collator, self.tokens = collator, []

    def __call__(self, features):
        self.tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return self.collator(features)


def transformers_collator(job):
    if job.label_names:
        return transformers.DataCollatorForTokenClassification(job.tokenizer)
    names = ("mlm_probability", "mask_replace_prob", "random_replace_prob")
    options = {name: getattr(job.settings, name) for name in names}
    return transformers.DataCollatorForLanguageModeling(job.tokenizer, **options)


def features_of(job):
    """The rows as dicts of Python lists, as a data set of `datasets` hands them to a collator."""
    names = {"input_ids": "input_ids", "special_tokens_mask": "special"}  # of masked LM
    if job.label_names:
        names = {name: name for name in job.columns.values}
    lists = {}
    for name, column in names.items():
        values = job.columns.values[column].astype(np.int64)
        lists[name] = [part.tolist() for part in np.split(values, job.columns.offsets[1:-1])]
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def argmax(logits, labels):
    """preprocess_logits_for_metrics of run_mlm.py."""
    return logits.argmax(dim=-1)


def scores_as_scripts(label_names, prediction):
    """compute_metrics of run_mlm.py, or of run_ner.py, which calls seqeval."""
    predicted, labels = prediction.predictions, prediction.label_ids
    if label_names is None:
        return {"accuracy": float((predicted == labels)[labels != IGNORED].mean())}
    from seqeval.metrics import accuracy_score, classification_report  # brings in scikit-learn

    rows = list(zip(labels != IGNORED, predicted.argmax(-1), labels, strict=True))
    predicted = [[label_names[n] for n in ids[scored].tolist()] for scored, ids, _ in rows]
    gold = [[label_names[n] for n in ids[scored].tolist()] for scored, _, ids in rows]
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    return {"f1": report["micro avg"]["f1-score"], "accuracy": accuracy_score(gold, predicted)}


def last_loss(history):
    return "loss {:.3f}".format([entry["loss"] for entry in history if "loss" in entry][-1])


def scores_in(metrics):
    names = [name for name in ("loss", "f1", "accuracy") if f"eval_{name}" in metrics]
    return ", ".join(f"{name} {metrics[f'eval_{name}']:.4f}" for name in names)


# What both sides are given, and what is counted of it


def prepare(settings):
    """The model and the rows that the settings name, made of what the commands are made of."""
    if settings.task == "mlm":
        tokenizer, config, label_names = load_tokenizer(settings), load_config(settings), None
        auto_class = transformers.AutoModelForMaskedLM
    else:
        tokenizer, corpus = load_word_tokenizer(settings), read_tagged(settings)
        label_names = corpus.label_names
        config = load_config(settings, num_labels=len(label_names))
        auto_class = transformers.AutoModelForTokenClassification
    model = fresh_model(partial(load_model, auto_class, config, settings), settings.seed)
    model.to(choose_device(settings))
    max_length, limit = check_length(settings, tokenizer, model), settings.max_train_samples
    if settings.task == "mlm":
        texts = read_documents(settings)["train"].texts
        rows = encode_documents(tokenizer, texts, max_length, settings.line_by_line)
        columns, score = rows.columns.first(limit), mlm_page.score
        source = MaskedTokens(columns, tokenizer, settings)
    else:
        split, label2id = corpus.splits["train"], {name: i for i, name in enumerate(label_names)}
        words, tags = split.words[:limit], split.tags[:limit]  # long ones are cut, as in run_ner.py
        rows = encode_words(tokenizer, words, tags, label2id, max_length, settings.stride or 0)
        columns, score = rows.columns, WordScorer(rows, label_names, settings, tags)
        source = TaggedTokens(columns)
    return Job(settings, tokenizer, model, columns, label_names, source, score)


def describe(job):
    settings, lengths, config = job.settings, job.columns.lengths, job.model.config
    return (
        f"{len(lengths):,} rows of {settings.train_file}, {lengths.mean():.1f} tokens each, "
        f"{lengths.max()} at most\n"
        f"{type(job.model).__name__}, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, {job.model.num_parameters() / 1e6:.1f}M parameters"
    )


def rows_of_steps(job, evaluates):
    """The numbers of the rows of each step, of all rows for an evaluation."""
    num_rows, steps = len(job.columns), range(1, job.settings.max_steps + 1)
    if evaluates:
        return [np.arange(num_rows) for _ in steps]
    batches = TrainingBatches(num_rows, job.settings, collate=None)
    return [np.concatenate(batches.rows(step)) for step in steps]


def num_labels(job, rows):
    """How many tokens of some rows are predicted; with random masks, how many are on average."""
    where, _ = job.columns.token_index(rows)
    if job.label_names:
        return int((job.columns.values["labels"][where] != IGNORED).sum())
    return job.settings.mlm_probability * int((~job.columns.values["special"][where]).sum())


def peak_memory(device):
    """The highest memory of this process so far, in MiB, and of the tensors on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return {
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20,
        "peak_gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0,
    }
