"""What all contenders of a case are given: settings, model and rows, made as the job makes them."""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from rawtrain import mlm, ner
from rawtrain.cli.command import settings_from
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.collate.tokens import TaggedTokens
from rawtrain.config import MlmSettings, NerSettings, uses_own_data
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.job import decide_work
from rawtrain.precision import choose_device

IGNORED = -100


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


def token_source(job):
    if job.task == "mlm":
        return MaskedTokens(job.columns, job.tokenizer, job.settings)
    return TaggedTokens(job.columns)


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
