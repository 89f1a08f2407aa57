"""The tokenizer's work: chunks of a corpus through its backend, on all cores, in their order.

The calls go to `tokenizer.backend_tokenizer`, because transformers' own `tokenizer(...)` takes half
as much time again, on one core, to make lists of the results. Threads are enough: the backend
releases Python's lock for nine tenths of its time, so two threads keep two cores busy, and nothing
has to be started, copied or pickled.
"""

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from rawtrain.data.cache import Arrays, Cache, in_memory

logger = logging.getLogger(__name__)

Chunk = TypeVar("Chunk")
Encoded = TypeVar("Encoded")


@contextlib.contextmanager
def truncating(
    tokenizer: PreTrainedTokenizerFast,
    max_length: int | None = None,
    stride: int = 0,
    side: str = "right",
) -> Iterator[Tokenizer]:
    """The tokenizer's backend, set to truncate at `max_length` tokens (None: never), not to pad.

    Truncation is off afterwards, since it would be saved with the model.
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


def encode_rows(
    encode: Callable[[Chunk], Arrays],
    chunks: Callable[[], Iterable[Chunk]],
    num_workers: int | None,
    cache: Cache | None,
    key: str | None,
) -> Arrays:
    """The arrays of all chunks, from the cache or else encoded in threads."""

    def encoded():
        return encode_in_threads(encode, chunks(), num_workers)

    return cache.fetch(key, encoded) if cache and key else in_memory(encoded())


def encode_in_threads(
    encode: Callable[[Chunk], Encoded], chunks: Iterable[Chunk], num_workers: int | None = None
) -> Iterator[Encoded]:
    """Yield `encode(chunk)` for each chunk, in their order.

    Chunks in memory: one more than `num_workers`, the number of threads (default: of cores).
    """
    # Threads of the backend's own for each chunk would compete with these.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    num_workers = num_workers or num_cores()
    waiting: deque[Future[Encoded]] = deque()
    with ThreadPoolExecutor(num_workers) as threads:
        for chunk in chunks:
            waiting.append(threads.submit(encode, chunk))
            if len(waiting) > num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def warn_of_unknown(num_unknown: int, num_tokens: int) -> None:
    """Warn if nearly all tokens of a text are unknown: nothing can be learnt from it."""
    if num_unknown > 0.99 * num_tokens:
        share = num_unknown / num_tokens
        logger.warning(
            f"{num_unknown:,} of {num_tokens:,} tokens of the text ({share:.1%}) are unknown "
            f"to the tokenizer; is it made for this language and script?"
        )


def num_cores() -> int:
    """The number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
