"""How fast this machine could be at best: its measured matmul rate, and the work that is useful.

The limit of a case is the time that its useful matrix products alone would take at that rate. No
training loop reaches it: it leaves out everything that is not a matrix product.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rawtrain.fast.cpu import use_fastest_true_float32

# (rows, inputs, outputs) of the linear layers of encoders from MiniLM to BERT-large
SHAPES = [
    (rows, inputs, outputs)
    for rows in (512, 1024, 2600)
    for inputs, outputs in ((384, 384), (384, 1536), (768, 3072))
]
LARGE_SHAPES = [(8192, 1024, 4096), (8192, 4096, 4096)]  # what a GPU needs to be busy
SECONDS_PER_TRY, TRIES = 0.05, 3


@dataclass(frozen=True)
class Size:
    """What decides how much a model has to multiply."""

    body: int  # weights of the linear layers that every token passes
    head: int  # weights of those that only labelled tokens need to pass
    num_layers: int
    width: int


def model_size(model):
    """The `Size` of an encoder with a head.

    Weights are counted once: a model that passes one layer several times (ALBERT) does more work
    than is counted here, and its share of the limit is shown too low.
    """
    base = getattr(model, model.base_model_prefix, model)
    in_body = {id(module) for module in base.modules()}
    body = head = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "pooler" not in name:  # used once a row, or not at all
            if id(module) in in_body:
                body += module.weight.numel()
            else:
                head += module.weight.numel()
    return Size(body, head, model.config.num_hidden_layers, model.config.hidden_size)


def useful_flops(size, lengths, num_labels, passes=3):
    """The multiplications and additions that some rows need, attention within each row included.

    lengths: the real tokens of each row. passes: 3 for a training step, whose backward is twice the
    work of its forward, 1 for a forward alone.
    """
    lengths = np.asarray(lengths, dtype=np.float64)
    linear = 2 * (size.body * lengths.sum() + size.head * num_labels)
    attention = 4 * size.num_layers * size.width * (lengths**2).sum()  # q times k, and times v
    return float(passes * (linear + attention))


def measure_limit(connection, use_cpu, precisions):
    """A process of bench.py, alone on the machine: sends the best rate of each precision."""
    on_cuda = torch.cuda.is_available() and not use_cpu
    device = torch.device("cuda" if on_cuda else "cpu")
    shapes = SHAPES + LARGE_SHAPES if on_cuda else SHAPES
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    on_cpu = f"CPU with {capability}, torch on {threads} threads"
    found = {"device": torch.cuda.get_device_name() if on_cuda else on_cpu}
    for precision in precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        found[precision] = best_rate(shapes, dtype, device)
        if precision == "fp32" and not on_cuda:
            use_fastest_true_float32()  # for the rest of this process
            found[precision] = max(found[precision], best_rate(shapes, dtype, device))
    connection.send(found)


def best_rate(shapes, dtype, device):
    """The highest rate of a linear layer over all shapes, in FLOP/s."""
    return max(rate(*shape, dtype, device) for shape in shapes)


def rate(rows, inputs, outputs, dtype, device):
    """The fastest of several tries."""
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype)

    def seconds_of(repeats):
        start = time.perf_counter()
        for _ in range(repeats):
            F.linear(x, weight)
        wait_for(device)
        return time.perf_counter() - start

    seconds_of(3)  # the first calls choose and prepare a kernel
    repeats = max(1, int(SECONDS_PER_TRY / (seconds_of(5) / 5)))
    fastest = min(seconds_of(repeats) for _ in range(TRIES)) / repeats
    return 2 * rows * inputs * outputs / fastest


def wait_for(device):
    """Let a GPU finish what it was given, so that a clock read afterwards counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
