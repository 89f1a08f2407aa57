"""Rows that hold a sentence or a document each, from JSONL, CSV, Parquet or the hub, checked."""

import hashlib
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data.files import LONGEST_LINE, choose_columns
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

JSON_NAMES = {"NoneType": "null", "str": "text", "list": "a list", "dict": "an object"}
JSON_NAMES |= {"int": "a number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Rows:
    """Rows as dictionaries, with where each stands in its source."""

    rows: Sequence[dict]
    numbers: Sequence[int]  # the line or row of each, from 1
    source: str
    columns: list[str]
    at: str = ":"  # as in TaggedSentences

    def place(self, n: int) -> str:
        return f"{self.source}{self.at}{self.numbers[n]}"


@dataclass(frozen=True)
class Texts:
    """Some of the documents of a source. Each iteration reads them from it again.

    Like a list they have a length and can be sliced, but they take no memory. Iterating over any
    part reads the source to its end, to verify that it has not changed: rows encoded from other
    text would get a wrong key in the cache.
    """

    read: Callable[[], Iterable[str]]  # all texts of the source, empty ones too
    source: str
    digest: str  # of all that are not empty
    start: int  # of these, the first that is part of it
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> "Texts":
        start, stop, _ = part.indices(len(self))
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def __iter__(self) -> Iterator[str]:
        digest = hashlib.sha256()
        for number, text in enumerate(filter(is_visible, self.read())):
            _add(digest, text)
            if self.start <= number < self.stop:
                yield text
        if digest.hexdigest() != self.digest:
            raise ValueError(f"{self.source}: has changed since it was first read; start again")

    @property
    def fingerprint(self) -> str:
        return f"{self.digest} {self.start} {self.stop}"


@dataclass(frozen=True)
class Documents:
    """The documents of a split."""

    texts: Texts
    source: str
    num_empty: int  # documents that are null or white space, left out

    @property
    def fingerprint(self) -> str:
        return self.texts.fingerprint


def sentence_columns(
    columns: Sequence[str], settings: NerDataSettings, source: str
) -> tuple[str, str]:
    """The columns of the words and of the tags, chosen as in run_ner.py."""
    if len(columns) < 2:
        raise ValueError(f"{source}: expected a column of words and one of tags, found {columns}")
    label_names = (f"{settings.task_name}_tags", columns[1])
    usual = {"text_column_name": ("tokens", columns[0]), "label_column_name": label_names}
    text, label = choose_columns(columns, settings, source, usual)
    if text == label:
        raise ValueError(
            f"{source}: words and tags would both come from {text!r}; the columns are {columns}; "
            "choose with --text_column_name and --label_column_name"
        )
    return text, label


def text_column(columns: Sequence[str], settings: DataSettings, source: str) -> str:
    """The column of the documents, chosen as in run_mlm.py."""
    usual = {"text_column_name": ("text", columns[0])}
    return choose_columns(columns, settings, source, usual)[0]


def sentences_from(
    table: Rows, text: str, label: str, label_names: list[str] | None = None
) -> TaggedSentences:
    """A sentence from each row; `label_names`: what tags stand for that are numbers."""
    words, tags, lines, problems = [], [], [], []
    for n, row in enumerate(table.rows):
        problem = _sentence_problem(row, text, label, label_names)
        if problem:
            problems.append(f"{table.place(n)}: {problem}")
        elif row[text]:
            names = label_names if type(row[label][0]) is int else None
            words.append(row[text])
            tags.append([names[tag] for tag in row[label]] if names else row[label])
            lines.append([table.numbers[n]] * len(row[text]))
    raise_problems(
        problems, f"Expected in each row: {text!r}, a list of words; {label!r}, a tag for each."
    )
    num_empty = len(table.rows) - len(words)
    if not words:
        raise ValueError(f"{table.source}: no sentence ({num_empty} rows without words)")
    return TaggedSentences(words, tags, lines, table.source, table.at, num_empty, label_names)


def texts_of(rows: Iterable[tuple[int, dict]], column: str, source: str) -> Iterator[str]:
    """The text of each numbered row, "" for null. All problems are raised together at the end."""
    problems = []
    for number, row in rows:
        if column not in row:
            problems.append(f"{source}:{number}: no key {column!r}; found {_names(row)}")
        elif type(row[column]) not in (str, type(None)):
            problems.append(f"{source}:{number}: {column!r} is {_kind(row[column])}")
        elif problem := _surrogate_problem([row[column]]):
            problems.append(f"{source}:{number}: {problem}")
        else:
            yield row[column] or ""
    raise_problems(problems, f"Expected in each row: {column!r}, text or null.")


def documents_from(read: Callable[[], Iterable[str]], source: str) -> Documents:
    """The texts from `read()` with a visible character; the others are counted.

    Reads all of them once, so that mistakes are reported before anything is encoded.
    """
    digest, num_texts, num_visible = hashlib.sha256(), 0, 0
    for text in read():
        num_texts += 1
        if is_visible(text):
            num_visible += 1
            _add(digest, text)
        if len(text) > LONGEST_LINE:
            raise ValueError(
                f"{source}: document {num_texts} has {len(text):,} characters; break it up into "
                f"documents of {LONGEST_LINE:,} at most"
            )
    if not num_visible:
        raise ValueError(f"{source}: no document ({num_texts} empty ones); expected some text")
    texts = Texts(read, source, digest.hexdigest(), 0, num_visible)
    return Documents(texts, source, num_texts - num_visible)


def is_visible(text: str) -> bool:
    """Whether a text has a character other than white space."""
    return bool(text) and not text.isspace()


def _add(digest, text: str) -> None:
    data = text.encode()
    digest.update(b"%d:" % len(data))  # without it "ab", "c" would have the digest of "a", "bc"
    digest.update(data)


def _sentence_problem(row, text, label, label_names):
    for key in (text, label):
        if key not in row:
            return f"no key {key!r}; found {_names(row)}"
        if type(row[key]) is not list:
            split = "; split it into words" if key == text and type(row[key]) is str else ""
            return f"{key!r} is {_kind(row[key])}, not a list{split}"
    words, tags = row[text], row[label]
    for word in words:
        if type(word) is not str:
            return f"{text!r} has {_kind(word)} among the words: {reprlib.repr(word)}"
    if len(words) != len(tags):
        return f"{len(words)} words in {text!r}, but {len(tags)} tags in {label!r}"
    return _tag_problem(tags, label, label_names) or _surrogate_problem([*words, *tags])


def _tag_problem(tags, label, label_names):
    kinds = set(map(type, tags))
    if kinds <= {str}:
        return None
    if kinds != {int}:
        found = " and ".join(sorted({_kind(tag) for tag in tags}))
        return f"{label!r} has {found} among the tags"
    if label_names is None:
        return (
            f"{label!r} has numbers, and nothing says which names they stand for; write names "
            "(B-PER), or save the data with `datasets`, as ClassLabel, in Parquet"
        )
    for tag in tags:
        if not 0 <= tag < len(label_names):
            return f"{label!r} has the number {tag}; the names have 0 to {len(label_names) - 1}"
    return None


def _surrogate_problem(texts):
    try:
        "".join(text for text in texts if type(text) is str).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
    return None


def _kind(value) -> str:
    name = type(value).__name__
    return JSON_NAMES.get(name, name)


def _names(row: dict) -> str:
    return ", ".join(map(repr, row)) or "none"
