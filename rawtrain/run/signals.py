"""Signals: SIGTERM and SIGINT end a run, SIGUSR1 asks it for a checkpoint.

Where there is nothing to lose (imports, encoding, an evaluation of a finished model) the program
ends at once. While a model is trained the end is held back to where a checkpoint can be taken: the
end of a step, or the middle of an evaluation, which changes no weight.

A signal's handler runs between any two lines of Python. So it only notes what was asked for, or
raises SystemExit, and what it says goes straight to the file descriptor.
"""

import contextlib
import os
import signal

ENDING = (signal.SIGTERM, signal.SIGINT)

_end_asked = None  # the exit code of the first signal that asked for the end
_is_held = False
_checkpoint_asked = False


class Interrupted(SystemExit):
    """The end that a signal asked for; the exit code is 128 + its number, as a shell reports it."""


def listen():
    """Take the signals over from their default, which ends the process on the spot."""
    for number in ENDING:
        signal.signal(number, _on_end)
    signal.signal(signal.SIGUSR1, _on_checkpoint)


def ignore():
    """What a worker process does: it ends with the main process, and a terminal's ^C reaches both.

    A worker that ended by itself would take the step in hand with it.
    """
    for number in (*ENDING, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def held():
    """Within it a signal waits for a `poll`, at the latest that on leaving."""
    global _is_held
    before, _is_held = _is_held, True
    try:
        yield
    finally:
        _is_held = before
    if not _is_held:
        poll()


def poll():
    """Raise Interrupted if a signal asked for the end."""
    if _end_asked is not None:
        raise Interrupted(_end_asked)


def checkpoint_asked():
    """Whether SIGUSR1 came since the last call."""
    global _checkpoint_asked
    asked, _checkpoint_asked = _checkpoint_asked, False
    return asked


def _on_end(number, frame):
    global _end_asked
    name = signal.Signals(number).name
    if _end_asked is None:
        _end_asked = 128 + number
        _say(f"{name}: ends after a checkpoint" if _is_held else f"interrupted by {name}")
    # a library may swallow the exception: then the next signal or poll raises it again
    if not _is_held:
        poll()


def _on_checkpoint(number, frame):
    global _checkpoint_asked
    _checkpoint_asked = _is_held
    _say("SIGUSR1: " + ("a checkpoint follows" if _is_held else "nothing is being trained yet"))


def _say(line):
    # print would fail where the signal came in the middle of another print
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
