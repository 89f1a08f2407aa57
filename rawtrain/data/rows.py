"""From rows to sentences with tags, and to documents; what a row must hold is checked here."""

import hashlib
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from rawtrain.config import DataSettings, NerDataSettings
from rawtrain.data.choice import (
    are_tags,
    are_words,
    as_list,
    choose,
    json_kind,
    weigh_lists,
    weigh_text,
)
from rawtrain.data.files import LONGEST_LINE
from rawtrain.data.tables import Rows, quoted
from rawtrain.data.tags import TaggedSentences
from rawtrain.errors import raise_problems

SENTENCE_NAMES = ("sentence_id", "sentence", "sent_id", "sentence #")
DOCUMENT_NAMES = ("document_id", "doc_id", "document", "doc")  # sentence ids begin anew in each
TEXT_NAMES = ("text", "content", "sentence", "document", "body")


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
        for number, text in enumerate(filter(str.strip, self.read())):
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
    left_out: dict[str, int] = field(default_factory=dict)  # {"empty documents": 2}, by the reader

    @property
    def fingerprint(self) -> str:
        return self.texts.fingerprint


def sentences_of(rows: Rows, settings: NerDataSettings) -> TaggedSentences:
    """A sentence from each row, its tags names or class numbers."""
    task = settings.task_name
    label_names = f"{task}_tags {task} {task}_labels tags labels label upos".split()
    weigh_words = partial(weigh_lists, wanted=are_words)
    weigh_tags = partial(weigh_lists, wanted=bool if task == "pos" else are_tags)
    usual = {
        "text_column_name": (("tokens", "words", "text", "token", "word"), weigh_words),
        "label_column_name": (label_names, weigh_tags),
    }
    text, label = choose(rows, settings, usual)
    names = rows.class_names.get(label)
    words, tags, lines, problems, left_out = [], [], [], [], Counter[str]()
    for number, row in rows.read([text, label]):
        row = {key: as_list(value) for key, value in row.items()}
        if problem := _sentence_problem(row, text, label, names):
            problems.append(f"{rows.place(number)}: {problem}")
        elif row[text]:
            words.append(row[text])
            numbers = type(row[label][0]) is int
            tags.append([names[tag] for tag in row[label]] if names and numbers else row[label])
            lines.append([number] * len(row[text]))
        else:
            left_out["sentences without words"] += 1
    raise_problems(
        problems,
        f"Expected in each row: {text!r}, a list of words; {label!r}, a tag for each. Choose the "
        "columns with --text_column_name and --label_column_name.",
    )
    if not words:
        raise ValueError(f"{rows.source}: no sentence ({left_out.total()} rows without words)")
    return TaggedSentences(words, tags, lines, rows.source, rows.at, left_out, names)


def sentences_of_words(rows: Rows, settings: NerDataSettings) -> TaggedSentences:
    """Sentences from rows of one word each. An empty sentence id repeats the one above it."""
    task = settings.task_name
    label_names = f"{task}_tags {task}_tag {task} tag tags label labels".split()
    usual = {
        "sentence_column_name": (SENTENCE_NAMES, bool),
        "text_column_name": (("word", "token", "words", "tokens", "text", "form"), bool),
        "label_column_name": (label_names, bool),
    }
    sentence, word, tag = columns = choose(rows, settings, usual)
    words, tags, lines, problems = [], [], [], []
    seen, current = set(), None
    document = next((c for c in rows.columns if c.casefold() in DOCUMENT_NAMES), sentence)
    for number, row in rows.read([*columns, document]):
        if row[sentence] != "" and (row[document], row[sentence]) != current:
            current = row[document], row[sentence]
            if current in seen:
                problems.append(f"{rows.place(number)}: the sentence {row[sentence]!r} comes back")
            seen.add(current)
            for column in (words, tags, lines):
                column.append([])
        elif current is None:
            place = rows.place(number)
            raise ValueError(f"{place}: the first row has no sentence id in {sentence!r}")
        words[-1].append(row[word])
        tags[-1].append(row[tag])
        lines[-1].append(number)
    raise_problems(problems, f"The rows of a sentence (column {sentence!r}) must stand together.")
    return TaggedSentences(words, tags, lines, rows.source)


def documents_of(rows: Rows, settings: DataSettings) -> Documents:
    """A document from each row."""
    [column] = choose(rows, settings, {"text_column_name": (TEXT_NAMES, weigh_text)})
    return documents_from(partial(_texts_of, rows, column), rows.source)


def documents_from(read: Callable[[], Iterable[str]], source: str) -> Documents:
    """The texts from `read()` with a visible character; the others are counted.

    Reads all of them once, so that mistakes are reported before anything is encoded.
    """
    digest, num_visible, left_out = hashlib.sha256(), 0, Counter[str]()
    for number, text in enumerate(read(), start=1):
        if len(text) > LONGEST_LINE:
            raise ValueError(
                f"{source}: document {number} has {len(text):,} characters; break it up into "
                f"documents of {LONGEST_LINE:,} at most"
            )
        if text.strip():
            num_visible += 1
            _add(digest, text)
        else:
            left_out["empty documents"] += 1
    if not num_visible:
        num_empty = left_out.total()
        raise ValueError(f"{source}: no document ({num_empty} empty ones); expected some text")
    return Documents(Texts(read, source, digest.hexdigest(), 0, num_visible), source, left_out)


def _add(digest, text):
    data = text.encode()
    digest.update(b"%d:" % len(data))  # without it "ab", "c" would have the digest of "a", "bc"
    digest.update(data)


def _texts_of(rows, column):
    """The text of each row, "" for null. All problems are raised together at the end."""
    problems = []
    for number, row in rows.read([column]):
        text = "" if json_kind(row.get(column)) in ("null", "NaN") else row[column]
        problem = _missing(row, column)
        if type(text) is not str:
            problem = f"{column!r} is {json_kind(text)}"
        if problem := problem or _surrogate_problem([text]):
            problems.append(f"{rows.place(number)}: {problem}")
        else:
            yield text
    raise_problems(problems, f"Expected: {column!r}, text or null; choose with --text_column_name.")


def _sentence_problem(row, text, label, names):
    for key in (text, label):
        if problem := _missing(row, key):
            return problem
        if type(row[key]) is not list:
            split = "; split it into words" if key == text and type(row[key]) is str else ""
            return f"{key!r} is {json_kind(row[key])}, not a list{split}"
    words, tags = row[text], row[label]
    for word in words:
        if type(word) is not str:
            return f"{text!r} has {json_kind(word)} among the words: {reprlib.repr(word)}"
    if len(words) != len(tags):
        return f"{len(words)} words in {text!r}, but {len(tags)} tags in {label!r}"
    types = set(map(type, tags))
    if not types <= {str} and types != {int}:
        found = " and ".join(sorted({json_kind(tag) for tag in tags}))
        return f"{label!r} has {found} among the tags"
    if types == {int} and names is None:
        return (
            f"{label!r} has numbers, and nothing says which names they stand for; write names "
            "(B-PER), or save the data with `datasets`, as ClassLabel, in Parquet"
        )
    for tag in tags:
        if type(tag) is int and not 0 <= tag < len(names):
            return f"{label!r} has the number {tag}; the names have 0 to {len(names) - 1}"
    return _surrogate_problem([*words, *map(str, tags)])


def _missing(row, key):
    return None if key in row else f"no key {key!r}; found {quoted(row) or 'none'}"


def _surrogate_problem(texts):
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
    return None
