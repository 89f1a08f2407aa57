"""How a command ends early: with a mistake of the user's, or a failure during the run.

A mistake (in settings, data or models) is a ValueError: exit code 2, before any training. A failure
is a `RunError`: exit code 1. Both carry one message. Any other exception is a bug of ours.
"""

import contextlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

logger = logging.getLogger(__name__)

MAX_SHOWN = 20
PLACE = re.compile(r"(.*?)((?::|, row )\d+)(: .*)", re.DOTALL)  # "a.conll:7: what is wrong"
TOLERATED: tuple[type[Exception], ...] = (Exception,)  # by `dispensable`; () in the tests


class RunError(RuntimeError):
    """The run cannot continue: a non-finite loss, a full disk, no memory, no sound checkpoint."""


def raise_problems(problems: Sequence[str], advice: str = "") -> None:
    """Raise one ValueError that lists up to 20 of the `problems`; return if there are none.

    What is wrong at several places of a file is listed once, with the first place and the number.
    """
    if not problems:
        return
    places: dict[tuple[str, ...], list[str]] = {}
    for problem in problems:
        found = PLACE.fullmatch(problem)
        places.setdefault(found.group(1, 3) if found else (problem,), []).append(problem)
    lines = [
        first + (f" ({len(others) + 1:,} times)" if others else "")
        for first, *others in places.values()
    ]
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"and {len(lines) - MAX_SHOWN} more"]
    raise ValueError("\n".join([*lines, advice] if advice else lines))


def listed(names: Iterable[str]) -> str:
    """The names with commas between; of many, the first 20 and the number of the others."""
    shown = [*names]
    if len(shown) > MAX_SHOWN:
        shown[MAX_SHOWN:] = [f"and {len(shown) - MAX_SHOWN:,} more"]
    return visible(", ".join(shown))


def visible(text: str) -> str:
    """The text with its control characters but line ends escaped: they could steer a terminal."""
    if text.isprintable():
        return text
    unshown = ("Cc", "Zl", "Zp")
    turning = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the direction of writing
    return "".join(
        ascii(c)[1:-1] if c in turning or (c != "\n" and unicodedata.category(c) in unshown) else c
        for c in text
    )


@contextlib.contextmanager
def dispensable(what: str) -> Iterator[None]:
    """Go on without a page, a picture or a card that fails; one line says which, and why.

    Also a decorator. With --log_level debug the traceback is shown.
    """
    try:
        yield
    except TOLERATED as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        is_debugged = logger.isEnabledFor(logging.DEBUG)
        logger.warning(f"{what} could not be made: {reason}", exc_info=is_debugged)
