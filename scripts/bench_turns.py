"""The life of a worker process: it builds a job, and then takes turns with the other workers.

After each turn it reports, and is blocked on its pipe, without using the processor, until the next
one may begin.
"""

import importlib
import resource
import sys
import time

import torch
import transformers
from bench_job import describe, device_name, prepare
from bench_limit import matmul_rates, wait_for


class CountingCollator:
    """A collator that notes the real tokens of each batch that it was asked for."""

    def __init__(self, collator):
        self.collator = collator
        self.tokens = []

    def __call__(self, features):
        self.tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return self.collator(features)


class Turns:
    """The turns of a worker. The first, which begins when this is made, is for warming up.

    num_steps: the steps of a turn. tokens_of: function from a step, from 1, to its real tokens.
    """

    def __init__(self, connection, device, num_steps, tokens_of):
        self.connection, self.device = connection, device
        self.num_steps, self.tokens_of = num_steps, tokens_of
        self.waited_seconds = self.waited_cpu_seconds = 0.0
        self._begin()

    def step_done(self, step):
        """Note that a step is done; at the end of a turn report it, and wait for the next."""
        if step % self.num_steps:
            return
        wait_for(self.device)
        turn = {
            "seconds": time.perf_counter() - self.start_time,
            "cpu_seconds": time.process_time() - self.start_cpu_time,
            "waited_seconds": self.waited_seconds,  # for this turn
            "waited_cpu_seconds": self.waited_cpu_seconds,
            "tokens": [self.tokens_of(s) for s in range(step - self.num_steps + 1, step + 1)],
        }
        self.connection.send(("turn", turn))
        waits_from, waits_from_cpu = time.perf_counter(), time.process_time()
        self.connection.recv()
        self.waited_seconds = time.perf_counter() - waits_from
        self.waited_cpu_seconds = time.process_time() - waits_from_cpu
        self._begin()

    def _begin(self):
        self.start_time, self.start_cpu_time = time.perf_counter(), time.process_time()


def work(connection, contender, task, flags, num_threads, *arguments):
    """The life of a worker process; a user's mistake is sent instead of raised.

    contender: "module.function", called with the job, the connection and the arguments.
    """
    module, name = contender.split(".")
    contender = getattr(importlib.import_module(module), name)
    if num_threads:
        torch.set_num_threads(num_threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        job = prepare(task, flags)
    except (ValueError, OSError) as mistake:
        connection.send(("mistake", str(mistake)))
        return
    connection.send(("described", describe(job)))
    try:
        found = contender(job, connection, *arguments)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # the main process has ended
        return
    connection.send(("done", found | peak_memory(job.device)))


def work_limit(connection, precisions, use_cpu, num_threads):
    """A worker that measures the machine's limit, alone on the machine, and ends."""
    if num_threads:
        torch.set_num_threads(num_threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")
    found = {"device": device_name(device), "num_threads": torch.get_num_threads()}
    connection.send(("done", found | matmul_rates(precisions, device)))


def peak_memory(device):
    """The highest memory of this process so far, in MiB, and of the tensors on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    peak = {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if device.type == "cuda":
        peak["peak_cuda_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak
