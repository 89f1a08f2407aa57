"""The jobs whose runs kill.py kills: small data, a small model, and flags of many kinds."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, logging, set_seed

from rawtrain.cli import command
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.small_bert import train_small_tokenizer

SETTINGS = {"ner": NerSettings, "mlm": MlmSettings}


@dataclass(frozen=True)
class Job:
    """A command: `python -m rawtrain.<task> <flags> --output_dir ...`."""

    task: str
    name: str
    flags: tuple[str, ...]

    def settings(self, output_dir):
        flags = [*self.flags, "--output_dir", str(output_dir)]
        return command.settings_from(SETTINGS[self.task], flags)

    def with_flags(self, name, *flags):
        return Job(self.task, f"{self.name}, {name}", (*self.flags, *flags))


def write_data(folder: Path):
    """Write a few hundred sentences of the docstrings, and a random BERT that knows their words."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    folder.mkdir()
    corpus = read_docstring_corpus()
    for name, num_sentences in (("train", 76), ("validation", 24), ("test", 24)):
        split = getattr(corpus, name)
        sentences = [
            "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
            for words, tags in zip(split.words[:num_sentences], split.tags, strict=False)
        ]
        (folder / f"{name}.conll").write_text("\n".join(sentences), encoding="utf-8")
    train_texts, validation_texts = corpus.documents[:76], corpus.documents[76:100]
    (folder / "train.txt").write_text("\n".join(train_texts), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(validation_texts), encoding="utf-8")

    tokenizer = train_small_tokenizer(corpus.documents[:300], 600, model_max_length=48)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(0)
    BertForMaskedLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def make_jobs(data: Path, more_flags=()):
    """The jobs by name: task, workers and accumulation in every combination, then single flags.

    76 rows in batches of 8 are 10 micro-batches an epoch, the last one short; of 3 to a step the
    last step has one.
    """
    jobs = []
    for task, workers, accumulation in itertools.product(("ner", "mlm"), (0, 2), (1, 3)):
        flags = (
            *("--dataloader_num_workers", str(workers)),
            *("--gradient_accumulation_steps", str(accumulation)),
        )
        name = f"{task}, {workers} workers, accumulation {accumulation}"
        jobs.append(Job(task, name, (*_flags(task, data), *flags)))
    simplest = {task: Job(task, task, _flags(task, data)) for task in SETTINGS}
    by_steps = ("--eval_strategy", "steps", "--eval_steps", "2")
    best = ("--load_best_model_at_end", "true", "--early_stopping_patience", "3")
    jobs += [
        *(job.with_flags("bf16", "--bf16") for job in simplest.values()),
        *(job.with_flags("padding", "--padding") for job in simplest.values()),
        *(job.with_flags("best model", *by_steps, *best) for job in simplest.values()),
    ]
    return [Job(job.task, job.name, (*job.flags, *more_flags)) for job in jobs]


def _flags(task, data):
    kind = {"ner": "conll", "mlm": "txt"}[task]
    flags = {
        "model_name_or_path": data / "model",
        "train_file": data / f"train.{kind}",
        "validation_file": data / f"validation.{kind}",
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "max_steps": 20,
        "logging_steps": 1,
        "save_steps": 3,
        "save_total_limit": 2,
        "disable_tqdm": "true",
        "preprocessing_num_workers": 1,
    }
    task_flags = {"ner": {"test_file": data / "test.conll"}, "mlm": {"line_by_line": "true"}}
    pairs = [(f"--{name}", str(value)) for name, value in (flags | task_flags[task]).items()]
    return ("--use_cpu", *itertools.chain.from_iterable(pairs))
