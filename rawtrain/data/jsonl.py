"""JSON lines: one object a line, read strictly, since lenient readers lose rows in silence."""

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
    """The number and the object of each line. All problems are raised together at the end."""
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
            row = json.loads(
                line, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
            )
            if type(row) is not dict:
                raise ValueError(f"{line[:20]!r} is not a JSON object")
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON at column {error.colno}: {error.msg}")
        except RecursionError:
            problems.append(f"{path}:{number}: nested too deeply")
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
        else:
            num_rows += 1
            yield number, row
    raise_problems(problems, 'Expected one JSON object a line, such as {"text": "..."}.')
    if not num_rows:
        raise ValueError(f"{path}: no JSON object in this file; expected one a line")


def _without_duplicates(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in row if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return row


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")
