"""The data that the settings name: files, read by their extension, or a data set of the hub.

.jsonl .json   an object a line, each a sentence or a document
.csv           rows of a word each, with a sentence id, or of a document each
.parquet       rows of a sentence or a document each
any other      sentences: CoNLL columns; documents: one a line
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import datasets

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data import tags
from rawtrain.data.conll import read_conll
from rawtrain.data.files import iterate_lines, kind_of
from rawtrain.data.rows import (
    Documents,
    documents_from,
    documents_of,
    sentences_of,
    sentences_of_words,
)
from rawtrain.data.tables import FORMATS, hub_rows, read_rows
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

logger = logging.getLogger(__name__)

SPLIT_NAMES = {"train": ["train"], "validation": ["validation", "dev", "val"], "test": ["test"]}
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
    splits = _read_splits(settings, read_sentences, sentences_of)
    scheme, num_repaired = "none", 0
    if settings.task_name != "pos":
        splits, scheme, num_repaired = tags.unify(splits)
    first, *others = splits.values()
    label_names = first.label_names
    if label_names is None or scheme not in ("IOB2", "none"):
        learnt = [first] if "train" in splits else [first, *others]
        label_names = tags.label_list(t for split in learnt for t in split.tags)
    tags.check_known(splits, label_names)
    _warn_of_bad_training_data(splits)
    return TaggedCorpus(splits, label_names, scheme, num_repaired)


def read_documents(settings: DataSettings) -> dict[str, Documents]:
    """The documents that the settings name, by split."""
    return _read_splits(settings, read_document_file, documents_of)


def read_document_file(path: str, settings: DataSettings) -> Documents:
    """The documents of a file: its lines if it is plain text."""
    if kind_of(path) in FORMATS:
        return documents_of(read_rows(path, settings.encoding), settings)
    return documents_from(partial(iterate_lines, path, settings.encoding), path)


def read_sentences(path: str, settings: NerDataSettings) -> TaggedSentences:
    """The tagged sentences of a file."""
    kind, encoding = kind_of(path), settings.encoding
    if kind == ".csv":
        return sentences_of_words(read_rows(path, encoding), settings)
    if kind in FORMATS:
        return sentences_of(read_rows(path, encoding), settings)
    return read_conll(path, settings.token_column, settings.tag_column, encoding)


def _read_splits(
    settings: DataSettings, from_file: Callable[..., Split], from_rows: Callable[..., Split]
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
                splits[split] = from_file(file, settings)
            elif name:
                rows = hub_rows(hub[name], f"{settings.dataset_name} ({name})")
                splits[split] = from_rows(rows, settings)
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


def _warn_of_bad_training_data(splits: Mapping[str, TaggedSentences]) -> None:
    """Warn if all tags are the same, and of sentences that repeat another or one of training."""
    known = set(map(tuple, splits["train"].words)) if "train" in splits else set()
    for name, split in splits.items():
        sentences = list(map(tuple, split.words))
        source, total = split.source, f"of {len(sentences):,} sentences"
        names = tags.label_list(split.tags)
        if name == "train" and len(names) == 1:
            logger.warning(f"{source}: every word has the tag {names[0]!r}: nothing to learn")
        if num_repeated := len(sentences) - len(set(sentences)):
            logger.warning(f"{source}: {num_repeated:,} {total} repeat another")
        num_known = 0 if name == "train" else sum(words in known for words in sentences)
        if num_known:
            logger.warning(
                f"{source}: {num_known:,} {total} are in the training data too: their scores say "
                f"little about new text"
            )
