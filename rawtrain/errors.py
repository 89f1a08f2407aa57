"""How a run ends early: by a mistake of the user's, or by a failure that is nobody's mistake.

A mistake (settings, data, models) is a ValueError and ends a command with exit code 2, before any
training. A `RunError` ends it with exit code 1. Both carry one message for the user; any other
exception is ours and keeps its traceback.
"""

from collections.abc import Sequence

MAX_SHOWN = 20


class RunError(RuntimeError):
    """The run cannot continue: a non-finite loss, a full disk, no memory, no sound checkpoint."""


def raise_problems(problems: Sequence[str], advice: str = "") -> None:
    """Raise one ValueError that lists `problems`, 20 at most; return if there are none."""
    if not problems:
        return
    lines = list(problems[:MAX_SHOWN])
    if len(problems) > MAX_SHOWN:
        lines.append(f"and {len(problems) - MAX_SHOWN} more")
    raise ValueError("\n".join([*lines, advice] if advice else lines))
