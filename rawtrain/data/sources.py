"""The data that the settings name: files, read by their extension, or a data set of the hub.

.jsonl .json   an object a line, each a sentence or a document
.csv           rows of a word each, with a sentence id, or of a document each
.parquet       rows of a sentence or a document each
any other      sentences: CoNLL columns; documents: one a line
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import datasets
import pyarrow as pa

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data import conll, tags
from rawtrain.data.files import iterate_lines
from rawtrain.data.jsonl import iterate_jsonl, read_jsonl
from rawtrain.data.rows import (
    Documents,
    documents_from,
    sentence_columns,
    sentences_from,
    text_column,
    texts_of,
)
from rawtrain.data.tables import (
    BATCH,
    documents_from_batches,
    documents_from_parquet,
    read_csv_rows,
    read_parquet,
    sentences_from_table,
    sentences_from_words,
)
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": ["train"], "validation": ["validation", "dev", "val"], "test": ["test"]}
LONGEST_WORD = 100_000  # characters
Split = TypeVar("Split", TaggedSentences, Documents)


@dataclass(frozen=True)
class TaggedCorpus:
    """The splits that there are, with IOB2 tags, and the labels for a model to predict."""

    splits: dict[str, TaggedSentences]  # keys: "train", "validation", "test"
    label_names: list[str]
    scheme: str  # as found: "IOB1", "IOB2", "IOBES", or "none" for part-of-speech tags
    num_repaired: int  # I- tags that continued no entity, read as B-


def read_tagged(settings: NerDataSettings) -> TaggedCorpus:
    """The tagged sentences that the settings name.

    The labels are the names that the data declares, in its order, unless the tags had to be
    converted; otherwise the tags of the training split, sorted, as in run_ner.py.
    """
    splits = _read_splits(settings, _read_sentences, _hub_sentences)
    _check_words(splits.values())
    scheme, num_repaired = "none", 0
    if settings.task_name != "pos":
        splits, scheme, num_repaired = tags.unify(splits)
    first, *others = splits.values()
    if first.label_names is not None and scheme in ("IOB2", "none"):
        label_names = first.label_names
    elif "train" in splits:
        label_names = tags.label_list(first.tags)
    else:
        label_names = tags.label_list(t for split in (first, *others) for t in split.tags)
    tags.check_known(splits, label_names)
    if "train" in splits:
        _warn_of_one_tag(splits["train"])
    _warn_of_repetitions(splits)
    return TaggedCorpus(splits, label_names, scheme, num_repaired)


def read_documents(settings: DataSettings) -> dict[str, Documents]:
    """The documents that the settings name, by split."""
    return _read_splits(settings, read_document_file, _hub_documents)


def _read_splits(
    settings: DataSettings, read_file: Callable[..., Split], from_hub: Callable[..., Split]
) -> dict[str, Split]:
    """The splits in the order train, validation, test. All problems are raised together."""
    splits: dict[str, Split] = {}
    problems: list[str] = []
    hub = _load_dataset(settings) if settings.dataset_name else {}
    for split, names in SPLIT_NAMES.items():
        file = getattr(settings, f"{split}_file", None)
        name = next((name for name in names if name in hub), None)
        try:
            if file:
                splits[split] = read_file(file, settings)
            elif name:
                source = f"{settings.dataset_name} ({name})"
                splits[split] = from_hub(hub[name].with_format("arrow"), source, settings)
        except ValueError as error:
            problems.append(str(error))
    raise_problems(problems)
    if not splits:
        raise ValueError("No data: name files with --train_file ..., or a --dataset_name")
    return splits


def _load_dataset(settings: DataSettings) -> datasets.DatasetDict:
    name, config = settings.dataset_name, settings.dataset_config_name
    try:
        loaded = datasets.load_dataset(name, config)
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error)
        raise ValueError(
            f"The data set {name!r} (configuration {config!r}) cannot be loaded: {reason}"
        ) from error
    if not set(loaded) & {name for names in SPLIT_NAMES.values() for name in names}:
        raise ValueError(
            f"The data set {name!r} has the splits {', '.join(map(repr, loaded))}; "
            "expected train, validation (or dev, val) or test"
        )
    return loaded


def _check_words(splits: Iterable[TaggedSentences]) -> None:
    """Refuse words that are too long to be words."""
    raise_problems(
        [
            f"{split.place(s, w)}: a word of {len(word):,} characters"
            for split in splits
            for s, words in enumerate(split.words)
            for w, word in enumerate(words)
            if len(word) > LONGEST_WORD
        ],
        f"Expected words of {LONGEST_WORD:,} characters at most. Is this the right column?",
    )


def _warn_of_one_tag(train: TaggedSentences) -> None:
    """Warn if all tags are the same, such as O where there is no entity."""
    names = tags.label_list(train.tags)
    if len(names) == 1:
        logger.warning(f"{train.source}: every word has the tag {names[0]!r}: nothing to learn")


def _warn_of_repetitions(splits: Mapping[str, TaggedSentences]) -> None:
    """Warn of sentences that occur twice in a split, or in the training data too."""
    known = set(map(tuple, splits["train"].words)) if "train" in splits else set()
    for name, split in splits.items():
        num_sentences = len(split.words)
        num_repeated = num_sentences - len(set(map(tuple, split.words)))
        if num_repeated:
            logger.warning(
                f"{split.source}: {num_repeated:,} of {num_sentences:,} sentences repeat another"
            )
        num_known = 0 if name == "train" else sum(tuple(words) in known for words in split.words)
        if num_known:
            logger.warning(
                f"{split.source}: {num_known:,} of {num_sentences:,} sentences are in the training "
                f"data too: their scores say little about new text"
            )


def _read_sentences(path: str, settings: NerDataSettings) -> TaggedSentences:
    suffix = Path(path).suffix.lower()
    if suffix in (".json", ".jsonl"):
        table = read_jsonl(path)
        return sentences_from(table, *sentence_columns(table.columns, settings, table.source))
    if suffix == ".csv":
        return sentences_from_words(read_csv_rows(path), settings)
    if suffix == ".parquet":
        return sentences_from_table(read_parquet(path), path, settings)
    return conll.read_conll(path, settings.token_column, settings.tag_column)


def _hub_sentences(dataset, source, settings) -> TaggedSentences:
    return sentences_from_table(dataset[:], source, settings)


def read_document_file(path: str, settings: DataSettings) -> Documents:
    """The documents of a file, whose extension says what kind of file it is."""
    suffix = Path(path).suffix.lower()
    if suffix in (".json", ".jsonl"):
        return documents_from(partial(_jsonl_texts, path, settings), path)
    if suffix == ".csv":
        table = read_csv_rows(path)
        column = text_column(table.columns, settings, path)
        rows = list(zip(table.numbers, table.rows, strict=True))
        return documents_from(partial(texts_of, rows, column, path), path)
    if suffix == ".parquet":
        return documents_from_parquet(path, settings)
    return documents_from(partial(iterate_lines, path), path)


def _jsonl_texts(path: str, settings: DataSettings) -> Iterator[str]:
    rows = iterate_jsonl(path)
    number, first = next(rows)
    column = text_column(list(first), settings, path)
    return texts_of(chain([(number, first)], rows), column, path)


def _hub_documents(dataset, source, settings) -> Documents:
    def batches(column: str) -> Iterator[pa.Table]:
        return dataset.select_columns(column).iter(BATCH)

    return documents_from_batches(dataset[:0].schema, batches, source, settings)
