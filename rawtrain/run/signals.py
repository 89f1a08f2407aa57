"""Signals: SIGTERM and SIGINT end a run, SIGUSR1 asks it for a checkpoint.

Where nothing can be lost (imports, encoding, the evaluation of a finished model) the program ends
at once. While a model is trained, the end waits until a checkpoint can be taken: until a step is
done, or until the next batch of an evaluation, which changes no weight.

Python runs a signal's handler between any two of its instructions. So a handler only notes what was
asked for or raises SystemExit, and writes its message straight to the file descriptor.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

ENDING = (signal.SIGTERM, signal.SIGINT)

_end_asked: int | None = None  # the exit code of the first signal that asked for the end
_is_held = False
_checkpoint_asked = False


class Interrupted(SystemExit):
    """The end that a signal asked for; the exit code is 128 + its number, as a shell reports it."""


def listen() -> None:
    """Handle the signals here; by default they end the process on the spot."""
    for number in ENDING:
        signal.signal(number, _on_end)
    signal.signal(signal.SIGUSR1, _on_checkpoint)


def ignore() -> None:
    """Ignore the signals, as a worker process does: it ends with the main process.

    A terminal's ^C reaches both. A worker that ended by itself would fail the step in progress.
    """
    for number in (*ENDING, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within it a signal waits for the next `poll`, or for the end of the block."""
    global _is_held
    before, _is_held = _is_held, True
    try:
        yield
    finally:
        _is_held = before
    if not _is_held:
        poll()


def poll() -> None:
    """Raise Interrupted if a signal asked for the end."""
    if _end_asked is not None:
        raise Interrupted(_end_asked)


def checkpoint_asked() -> bool:
    """Whether SIGUSR1 came since the last call."""
    global _checkpoint_asked
    asked, _checkpoint_asked = _checkpoint_asked, False
    return asked


def _on_end(number, frame):
    global _end_asked
    if _end_asked is None:
        _end_asked = 128 + number
        name = signal.Signals(number).name
        _say(f"{name}: ends after a checkpoint" if _is_held else f"interrupted by {name}")
    if not _is_held:
        poll()  # also for a later signal: a library may have swallowed the first exception


def _on_checkpoint(number, frame):
    global _checkpoint_asked
    _checkpoint_asked = _is_held
    _say("SIGUSR1: " + ("a checkpoint follows" if _is_held else "nothing is being trained yet"))


def _say(line):
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())  # print would fail inside another print
