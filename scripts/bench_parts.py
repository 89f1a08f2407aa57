"""Two parts of a job by themselves: collating batches, and encoding the data.

Ours and transformers' way do the same work in turn within one process: neither leaves anything
behind that could help or hinder the other.
"""

import time
from dataclasses import replace

import datasets
import torch
from bench_job import features_of, token_source, transformers_collator
from bench_report import ratios

from rawtrain import mlm, ner
from rawtrain.batches import TrainingBatches
from rawtrain.collate.pad import PaddedRows
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.data.text import encode_documents

BATCHES = {"ner": ((24, None), (256, None)), "mlm": ((32, 128), (256, 512))}  # rows, row length
LEAST_SECONDS = 1.0  # of measuring each way of collating
ENCODING_ROUNDS = 3
IGNORED = -100


def compare_collators(job, connection):
    """Microseconds for a batch, from what each way keeps the encoded rows in: arrays or lists."""
    torch.set_num_threads(1)
    return {"batches": [compare_collator(job, *shape) for shape in BATCHES[job.task]]}


def compare_collator(job, num_rows, row_length):
    if row_length:
        texts = job.split.texts
        job = replace(job, rows=encode_documents(job.tokenizer, texts, row_length, False))
    features, collator = features_of(job.task, job.columns), transformers_collator(job)
    settings = replace(job.settings, per_device_train_batch_size=num_rows)
    collate = PaddedRows(token_source(job), job.tokenizer)
    batches = TrainingBatches(len(job.columns), settings, collate)
    row_numbers = [batches.rows(step)[0] for step in range(1, batches.steps_per_epoch + 1)]

    def ours(rows):
        return batches.collate(rows, epoch=0)

    def theirs(rows):
        return collator([features[row] for row in rows.tolist()])

    for rows in row_numbers[:10]:
        check_equal(ours(rows), theirs(rows))
    found = time_alternately(ours, theirs, row_numbers)
    lengths = job.columns.lengths[row_numbers[0]]
    return {
        "num_rows": len(row_numbers[0]),
        "longest": int(lengths.max()),
        "num_tokens": int(lengths.sum()),
        **found,
    }


def check_equal(ours, theirs):
    """Raise RuntimeError unless both are the same tensors, but for which tokens are masked."""
    if set(ours) != set(theirs):
        raise RuntimeError(f"other tensors: {sorted(ours)} here, {sorted(theirs)} in transformers")
    for name in ours:
        same = torch.equal(ours[name], theirs[name])
        is_random = name in ("input_ids", "labels") and not same
        if is_random and name == "input_ids":
            same = torch.equal(unmasked(ours), unmasked(theirs))
        elif is_random:
            same = ours[name].shape == theirs[name].shape and ours[name].dtype == theirs[name].dtype
        if not same:
            raise RuntimeError(f"{name}: another tensor than that of transformers")


def unmasked(batch):
    """The tokens before masking."""
    return torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])


def time_alternately(ours, theirs, batches):
    """The times of both for one batch after the other, and their ratios."""
    seconds = {ours: [], theirs: []}
    while sum(seconds[ours]) < LEAST_SECONDS and sum(seconds[theirs]) < LEAST_SECONDS:
        for rows in batches:
            for way, times in seconds.items():
                start = time.perf_counter()
                way(rows)
                times.append(time.perf_counter() - start)
    return {
        "seconds": {"rawtrain": seconds[ours], "trainer": seconds[theirs]},
        "ratio": ratios(seconds[theirs], seconds[ours]),
    }


def compare_encoding(job, connection):
    """Seconds from words or texts to rows of tokens: ours, and `datasets.map` of the scripts."""
    datasets.disable_progress_bars()
    ways = {
        "rawtrain": lambda: encode_as_rawtrain(job),
        "map": lambda: encode_as_script(job, None),
        "map, num_proc 2": lambda: encode_as_script(job, 2),
    }
    seconds, tokens = {name: [] for name in ways}, {}
    for _ in range(ENCODING_ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            rows = way()
            seconds[name].append(time.perf_counter() - start)
            tokens[name] = num_tokens(rows)
    return {
        "seconds": seconds,
        "tokens": tokens,
        "ratios": {name: ratios(times, seconds["rawtrain"]) for name, times in seconds.items()},
        "reading_seconds": reading(job),
    }


def reading(job):
    """Seconds in which rawtrain reads the file; None for the text that needs no file."""
    if not job.settings.train_file:
        return None
    start = time.perf_counter()
    (read_documents if job.task == "mlm" else read_tagged)(job.settings)
    return time.perf_counter() - start


def encode_as_rawtrain(job):
    """The job's own encoding, into its cache; nothing comes from there."""
    splits, settings = {"train": job.split}, replace(job.settings, overwrite_cache=True)
    if job.task == "mlm":
        return mlm.encode(settings, splits, job.tokenizer, job.model)["train"].columns
    encoded = ner.encode(settings, splits, job.tokenizer, job.model, job.label_names)
    return encoded["train"].columns


def encode_as_script(job, num_proc):
    """The calls of run_ner.py and run_mlm.py; nothing comes from a cache."""
    options = {"batched": True, "num_proc": num_proc, "load_from_cache_file": False}
    max_length = job.settings.max_seq_length or job.tokenizer.model_max_length
    if job.task == "ner":
        rows = datasets.Dataset.from_dict({"tokens": job.split.words, "tags": job.split.tags})
        label2id = {name: number for number, name in enumerate(job.label_names)}
        fn_kwargs = {"tokenizer": job.tokenizer, "label2id": label2id, "max_length": max_length}
        columns = ["tokens", "tags"]
        return rows.map(tokenize_words, fn_kwargs=fn_kwargs, remove_columns=columns, **options)
    texts = datasets.Dataset.from_dict({"text": list(job.split.texts)})
    longest = max_length if job.settings.line_by_line else None
    fn_kwargs = {"tokenizer": job.tokenizer, "max_length": longest}
    rows = texts.map(tokenize_texts, fn_kwargs=fn_kwargs, remove_columns=["text"], **options)
    if longest:
        return rows
    return rows.map(group_texts, fn_kwargs={"length": max_length}, **options)


def tokenize_words(examples, tokenizer, label2id, max_length):
    """tokenize_and_align_labels of run_ner.py."""
    encoded = tokenizer(
        examples["tokens"], truncation=True, max_length=max_length, is_split_into_words=True
    )
    encoded["labels"] = []
    for number, tags in enumerate(examples["tags"]):
        previous, labels = None, []
        for word in encoded.word_ids(batch_index=number):
            is_first = word is not None and word != previous
            labels.append(label2id[tags[word]] if is_first else IGNORED)
            previous = word
        encoded["labels"].append(labels)
    return encoded


def tokenize_texts(examples, tokenizer, max_length):
    """tokenize_function of run_mlm.py, with and without line_by_line."""
    return tokenizer(
        examples["text"],
        truncation=max_length is not None,
        max_length=max_length,
        return_special_tokens_mask=True,
        verbose=False,
    )


def group_texts(examples, length):
    """group_texts of run_mlm.py, which drops what is left over at the end of 1,000 texts."""
    joined = {name: [item for row in rows for item in row] for name, rows in examples.items()}
    total = len(joined["input_ids"]) // length * length
    return {
        name: [items[start : start + length] for start in range(0, total, length)]
        for name, items in joined.items()
    }


def num_tokens(rows):
    if isinstance(rows, datasets.Dataset):
        return sum(map(len, rows["input_ids"]))
    return len(rows.values["input_ids"])
