"""JSON lines: one object a line, read strictly, since lenient readers lose rows without a word."""

import json
from collections.abc import Iterator
from pathlib import Path

from rawtrain.data.files import iterate_lines
from rawtrain.data.rows import Rows
from rawtrain.errors import raise_problems


def read_jsonl(path: str | Path) -> Rows:
    """The objects of a file, with the keys of the first as columns. Blank lines are skipped."""
    numbers, rows = zip(*iterate_jsonl(path), strict=True)
    return Rows(rows, numbers, str(path), list(rows[0]))


def iterate_jsonl(path: str | Path) -> Iterator[tuple[int, dict]]:
    """The line number and the object of each line; what is wrong in any is raised at the end."""
    problems, num_rows = [], 0
    for number, line in enumerate(iterate_lines(path), start=1):
        if not line.strip(" \t"):
            continue
        if not (num_rows or problems) and line.lstrip().startswith("["):
            raise ValueError(
                f"{path}: a JSON array, not one object a line; convert it with "
                f"`jq -c '.[]' {path} > rows.jsonl`"
            )
        try:
            row = _read_object(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: {_explain(error)}")
            continue
        num_rows += 1
        yield number, row
    raise_problems(problems, 'Expected one JSON object a line, such as {"text": "..."}.')
    if not num_rows:
        raise ValueError(f"{path}: no JSON object in this file; expected one a line")


def _read_object(line: str) -> dict:
    value = json.loads(line, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    if type(value) is not dict:
        raise ValueError(f"{line[:20]!r} is not a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in seen if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return seen


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at column {error.colno}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
