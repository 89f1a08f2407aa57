"""JSON lines: one object a line, read strictly, since lenient readers lose rows without a word."""

import json
from pathlib import Path

from rawtrain.data.files import raise_problems, read_lines
from rawtrain.data.rows import Rows


def read_jsonl(path: str | Path) -> Rows:
    """The objects of a file, with the keys of the first as columns. Blank lines are skipped."""
    lines = read_lines(path)
    first = next((line.lstrip() for line in lines if line.strip()), "")
    if first.startswith("["):
        raise ValueError(
            f"{path}: a JSON array, not one object a line; convert it with "
            f"`jq -c '.[]' {path} > rows.jsonl`"
        )
    rows, numbers, problems = [], [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip(" \t"):
            continue
        try:
            rows.append(_read_object(line))
            numbers.append(number)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: {_explain(error)}")
    raise_problems(problems, 'Expected one JSON object a line, such as {"text": "..."}.')
    if not rows:
        raise ValueError(f"{path}: no JSON object in this file; expected one a line")
    return Rows(rows, numbers, str(path), list(rows[0]))


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
