"""Which columns of a table hold what a job reads: found by name, else by what they hold."""

import ast
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from rawtrain.config import DataSettings
from rawtrain.data.schemes import IOB_TAG
from rawtrain.data.tables import SPAN, SPANS_FOUND, Rows, quoted
from rawtrain.errors import listed

logger = logging.getLogger(__name__)

SAMPLE = 100  # rows that are looked at
LONGEST_NAME = 40
JSON_NAMES = {"NoneType": "null", "str": "text", "list": "a list", "dict": "an object"}
JSON_NAMES |= {"int": "a number", "float": "a number", "bool": "true or false"}
ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d+)"""
LIST = re.compile(rf"\s*\[\s*(?:{ITEM}(?:\s*,\s*{ITEM})*\s*)?\]\s*")


def choose(
    rows: Rows,
    settings: DataSettings,
    usual: Mapping[str, tuple[Sequence[str], Callable[[list], float]]],
) -> list[str]:
    """For each setting in `usual`, the column that it names, or the one that is found.

    usual: for a setting, the names of its column, whose case does not matter, and how much values
    look like what is wanted. The first such name is taken whose values do at all; else the column
    that does over five times as much as any other. What is read and what is not is logged.
    """
    chosen: list[str] = []
    missing = {}
    for setting, (names, weigh) in usual.items():
        asked = getattr(settings, setting)
        column = asked or _find(rows, names, weigh, chosen)
        if column in rows.columns and column not in chosen:
            chosen.append(column)
        else:
            found = f"there is no {'second ' * (asked in chosen)}column {asked!r}"
            missing[setting] = found if asked else f"no column is named {quoted(names)}"
    if missing:
        raise ValueError(f"{rows.source}: {_what_is_there(rows, missing)}")
    unused = [column for column in rows.columns if column not in chosen]
    left = f"; not used: {quoted(unused)}" if unused else ""
    logger.info(f"{rows.source}: columns read: {quoted(chosen)}{left}")
    return chosen


def weigh_text(values: list) -> float:
    """The mean number of words with letters; also of lists, which are then refused, not passed."""
    words = (word for value in values for word in str(value).split())
    return sum(any(map(str.isalpha, word)) for word in words) / max(1, len(values))


def weigh_lists(values: list, wanted: Callable[[list], bool]) -> float:
    """The mean of 1 for each list that is `wanted`, 0.1 for another list of text or of numbers."""
    lists = [items for items in map(as_list, values) if type(items) is list]
    usable = [items for items in lists if set(map(type, items)) in ({str}, {int})]
    return sum(1 if wanted(items) else 0.1 for items in usable) / max(1, len(values))


def are_words(items: list) -> bool:
    """Whether it is no list of tags: not all of B-PER and the like, nor all of NNS and PUNCT."""
    return not are_tags(items) and not "".join(items).isupper()


def are_tags(items: list) -> bool:
    return all(type(item) is int or IOB_TAG.fullmatch(item) for item in items)


def as_list(value: Any) -> Any:
    """The list that a text is, as JSON or as Python shows it; any other value as it is."""
    if type(value) is str and LIST.fullmatch(value):
        with suppress(ValueError):
            return json.loads(value)
        with suppress(SyntaxError):
            return ast.literal_eval(value)
    return value


def json_kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    is_nan = type(value) is float and value != value
    return "NaN" if is_nan else JSON_NAMES.get(type(value).__name__, type(value).__name__)


def _find(rows, names, weigh, taken):
    if any(len(name) >= LONGEST_NAME or len(name.split()) > 4 for name in rows.columns):
        return None  # the first row of a file without a header
    by_name = {column.casefold(): column for column in reversed(rows.columns)}
    named = [by_name[name.casefold()] for name in names if name.casefold() in by_name]
    for column, values in _sample(rows, named).items():
        if weigh(values) > 0:
            return column
    others = _sample(rows, [column for column in rows.columns if column not in taken])
    weights = {name: 0 if named else weigh(values) for name, values in others.items()}
    *_, second, best = sorted([0, 0, *weights.values()])
    if best > max(0.5, 5 * second):
        return max(weights, key=weights.get)
    return None if any(map(_has_spans, others.values())) else next(iter(named), None)


def _sample(rows, columns):
    """What each of these columns holds in the first rows, without null."""
    sample = [row for _, row in islice(rows.read(columns), SAMPLE)] if columns else []
    return {name: [r[name] for r in sample if r.get(name) is not None] for name in columns}


def _what_is_there(rows, missing):
    """The problem with columns that are missing, by setting."""
    held = _sample(rows, rows.columns)
    spans = [column for column, values in held.items() if _has_spans(values)]
    if spans and "label_column_name" in missing:
        return f"{SPANS_FOUND} (in {quoted(spans)})"
    columns = listed(f"{column!r} ({_kind_in(values)})" for column, values in held.items())
    flags = " and ".join(f"--{setting}" for setting in missing)
    return f"{'; '.join(missing.values())}; the columns are {columns}; choose with {flags}"


def _has_spans(values):
    return bool(SPAN.search(repr(values[:1])))


def _kind_in(values):
    first = as_list(values[0]) if values else None
    kinds = set(map(json_kind, first)) if type(first) is list else ()
    return f"a list of {kinds.pop()}" if len(kinds) == 1 else json_kind(first)
