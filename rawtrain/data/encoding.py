"""The tokenizer's work: chunks of a corpus through its backend, on all cores, in their order.

The calls go to `tokenizer.backend_tokenizer`, since transformers' own `tokenizer(...)` adds half of
the time again, on one core, for lists of the results. Threads do it, not processes: the backend
lets go of Python's lock while it encodes, nine tenths of the time, so that two threads keep two
cores busy, and nothing has to be started, copied or pickled.
"""

import contextlib
import logging
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def truncating(tokenizer, max_length=None, stride=0, side="right"):
    """The backend of a tokenizer, set to cut at `max_length` tokens (None: not to) and to pad not.

    Afterwards it truncates nothing: that would be saved with the model.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    if max_length is not None:
        backend.enable_truncation(max_length, stride=stride, direction=side)
    try:
        yield backend
    finally:
        backend.no_truncation()


def encode_in_threads(encode, chunks, num_workers=None):
    """Yield `encode(chunk)` for each chunk, in their order.

    num_workers: threads (default: all cores). No more chunks than these and one are held at once,
    however many there are.
    """
    num_workers = num_workers or num_cores()
    waiting = deque()
    with _one_thread_a_chunk(), ThreadPoolExecutor(num_workers) as threads:
        for chunk in chunks:
            waiting.append(threads.submit(encode, chunk))
            if len(waiting) > num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def warn_of_unknown(num_unknown, num_tokens):
    """Say so if next to nothing of a text is known to its tokenizer: nothing is learnt from it."""
    if num_unknown > 0.99 * num_tokens:
        share = num_unknown / num_tokens
        logger.warning(
            f"{num_unknown:,} of {num_tokens:,} tokens of the text ({share:.1%}) are unknown "
            f"to the tokenizer; is it made for this language and script?"
        )


def num_cores():
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def flat_ids(rows):
    """The numbers of all rows in one array; `columns.flat` is for rows in which some are None."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32)


def with_offsets(encoded):
    """Yield (arrays, counts) for each (arrays, lengths, counts).

    The lengths of the rows become the array "offsets" of where they begin, counted on from one
    chunk to the next; all chunks together have one more of these than rows.
    """
    num_tokens = 0
    yield {"offsets": np.zeros(1, dtype=np.int64)}, {}
    for arrays, lengths, counts in encoded:
        yield arrays | {"offsets": num_tokens + np.cumsum(lengths, dtype=np.int64)}, counts
        num_tokens += sum(lengths)


@contextlib.contextmanager
def _one_thread_a_chunk():
    """Keep the backend from spreading each chunk over threads of its own, which would compete."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
