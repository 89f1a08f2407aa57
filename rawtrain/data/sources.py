"""The data that the settings name: files, read by their extension, or a data set of the hub.

.jsonl .ndjson .json   an object a line, or a JSON array: each is a sentence or a document
.csv .tsv .tab         rows of a word each, with a sentence id; or of a sentence or document each
.parquet .arrow        rows of a sentence or a document each
any other              sentences: CoNLL columns, as a .tsv without such rows; documents: lines
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import datasets

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data import tags
from rawtrain.data.conll import read_conll
from rawtrain.data.files import iterate_lines, kind_of
from rawtrain.data.labels import labels_of_data
from rawtrain.data.rows import (
    SENTENCE_NAMES,
    Documents,
    documents_from,
    documents_of,
    sentences_of,
    sentences_of_words,
)
from rawtrain.data.tables import FORMATS, SEPARATORS, hub_rows, quoted, read_rows
from rawtrain.data.tags import TaggedCorpus, TaggedSentences
from rawtrain.errors import raise_problems

logger = logging.getLogger(__name__)

SPLIT_NAMES = {
    "train": ["train"],
    "validation": ["validation", "dev", "val", "valid"],
    "test": ["test"],
}
JSON_LINE = re.compile(r'\[?{".*}\]?,?|"[^"]*": .*|[][{}]+,?')
OTHER_WORDS = "choose other words with --token_column or --text_column_name"
# What all words of a file look like if they are none, and what to do.
NO_WORDS = {
    r"[\d\W_]+|[a-z]?\d+[_.:-][a-z]?\d+": f"are numbers; {OTHER_WORDS}",
    r"\w+(/\w+){2,}": f"are paths; {OTHER_WORDS}",
    r".* .*": f"hold a space; separate all columns by tabs, or {OTHER_WORDS}",
    r"[a-z]{2,3}:.+": "begin with a language, as in raw WikiANN: remove it, sed 's/^[a-z]*://'",
}
Split = TypeVar("Split", TaggedSentences, Documents)


def read_tagged(settings: NerDataSettings) -> TaggedCorpus:
    """The tagged sentences that the settings name, and their labels."""
    splits = _read_splits(settings, read_sentences, sentences_of)
    labelled = {name: split for name, split in splits.items() if split.gold_tags}
    unlabelled = {name: split.source for name, split in splits.items() if not split.gold_tags}
    if source := unlabelled.pop("test", None):
        logger.info(f"{source}: has no tags; it is predicted and not scored")
    raise_problems(
        [f"{source}: has no tags" for source in unlabelled.values()],
        "Expected a tag after each word, behind a space or a tab; choose its column with "
        "--tag_column. Only a --test_file may have one column, or _ for every tag.",
    )
    scheme, num_repaired = "none", 0
    if settings.task_name != "pos" and labelled:
        labelled, scheme, num_repaired = tags.unify(labelled, settings.repair_tags)
    splits |= labelled
    _look_at_data(splits)
    label_names = labels_of_data(labelled, scheme, settings) if labelled else []
    return TaggedCorpus(splits, label_names, scheme, num_repaired)


def read_documents(settings: DataSettings) -> dict[str, Documents]:
    """The documents that the settings name, by split."""
    return _read_splits(settings, read_document_file, documents_of)


def read_document_file(path: str, settings: DataSettings) -> Documents:
    """The documents of a file: its lines if it is plain text."""
    if kind_of(path) in FORMATS:
        return documents_of(read_rows(path, settings.encoding), settings)
    _refuse_json(path, settings.encoding)
    marks: Counter[str] = Counter()
    documents = documents_from(partial(iterate_lines, path, settings.encoding, marks), path)
    return replace(documents, left_out={**documents.left_out, **marks})


def read_sentences(path: str, settings: NerDataSettings) -> TaggedSentences:
    """The tagged sentences of a file."""
    kind, encoding = kind_of(path), settings.encoding
    if kind in SEPARATORS:
        header, row = [*islice(iterate_lines(path, encoding), 2), ""][:2]
        names = {name.strip('"').casefold() for name in header.split(SEPARATORS[kind])}
        asked = settings.sentence_column_name
        has_id = not names.isdisjoint([asked.casefold()] if asked else SENTENCE_NAMES)
        if re.search(r"""(^|[,\t])"?\[["']""", row):  # a cell that begins like a list
            return sentences_of(read_rows(path, encoding), settings)
        if kind == ".csv" or (has_id and len(names) > 2):  # other files of tabs are CoNLL columns
            return sentences_of_words(read_rows(path, encoding), settings)
    elif kind in FORMATS:
        return sentences_of(read_rows(path, encoding), settings)
    _refuse_json(path, encoding)
    return read_conll(path, settings.token_column, settings.tag_column, encoding)


def _refuse_json(path, encoding):
    lines = [line.strip() for line in islice(iterate_lines(path, encoding), 100) if line.strip()]
    num_json = sum(bool(JSON_LINE.fullmatch(line)) for line in lines)
    if num_json > len(lines) / 2:
        raise ValueError(
            f"{path}: {num_json} of the first {len(lines)} lines are JSON, not text or columns; "
            "rename the file: .jsonl for an object a line, .json for other JSON"
        )


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


def _load_dataset(settings: DataSettings) -> dict[str, datasets.Dataset]:
    """The splits of a data set of the hub or of a folder, which `save_to_disk` may have written."""
    name, config = settings.dataset_name or "", settings.dataset_config_name
    try:
        if any((Path(name) / file).exists() for file in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(name)
            loaded = saved if isinstance(saved, dict) else {"train": saved}
            files = [part["filename"] for split in loaded.values() for part in split.cache_files]
            _check_inside(name, files)
        else:
            builder = datasets.load_dataset_builder(name, config)
            _check_inside(name, chain(*(builder.config.data_files or {}).values()))
            builder.download_and_prepare()
            loaded = builder.as_dataset()
    except Exception as error:  # of many kinds
        reason = str(error.__cause__ or error)
        raise ValueError(
            f"The data set {name!r} (configuration {config!r}) cannot be loaded: {reason}"
        ) from error
    if set(loaded).isdisjoint(chain(*SPLIT_NAMES.values())):
        raise ValueError(
            f"The data set {name!r} has the splits {quoted(loaded)}; "
            "expected train, validation (or dev, val, valid) or test"
        )
    return loaded


def _check_inside(name: str, files: Iterable[str]) -> None:
    """Refuse files outside a folder, which its card or a link names; for the hub, files elsewhere.

    Links of the hub's cache lead from a folder in `snapshots` to one beside it.
    """
    root = Path(name).resolve()
    root = root.parents[1] if root.parent.name == "snapshots" else root
    for file in files:
        is_inside = "://" not in file and Path(file).resolve().is_relative_to(root)
        if not (is_inside if root.exists() else file.startswith("hf://")):
            raise ValueError(f"it names data outside itself, {file}; copy it there")


def _check_words(split: TaggedSentences) -> None:
    """Refuse words that come from the wrong column."""
    words = list(chain(*split.words))
    for form, problem in NO_WORDS.items():
        if len(words) >= 10 and all(re.fullmatch(form, word) for word in words):
            raise ValueError(f"{split.place(0, 0)}: all words, such as {words[0]!r}, {problem}")


def _look_at_data(splits: Mapping[str, TaggedSentences]) -> None:
    """Refuse words that are none; warn if all tags are the same, and of sentences that repeat."""
    known = set(map(tuple, splits["train"].words)) if "train" in splits else set()
    for name, split in splits.items():
        sentences = list(map(tuple, split.words))
        source, total = split.source, f"of {len(sentences):,} sentences"
        _check_words(split)
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
