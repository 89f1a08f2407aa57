"""What ends a run with exit code 1 and one message, because it is nobody's wrong setting."""


class RunError(RuntimeError):
    """The run cannot go on: a number that is none, a full disk, no memory, no sound checkpoint."""
