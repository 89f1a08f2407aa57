"""Device, memory and AMP: which precision, and the scaler that keeps fp16 gradients from vanishing.

Weights and optimizer state are float32 always. Under autocast the matrix products run in 16 bits;
the loss is computed in float32 (`loop.summed_cross_entropy`).
"""

import contextlib
import logging

import torch

from rawtrain.errors import RunError

logger = logging.getLogger(__name__)


def choose_device(settings):
    """The CUDA device if there is one and `use_cpu` does not forbid it, else the CPU.

    Raises ValueError for a precision that this device cannot run.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and not settings.use_cpu else "cpu")
    if settings.fp16 and device.type == "cpu":
        raise ValueError(
            "--fp16 needs a CUDA device and none was found; use --bf16, which runs on a CPU too"
        )
    if settings.bf16 and device.type == "cpu" and _has_no_16_bit_arithmetic():
        logger.warning("--bf16: this CPU has no bfloat16 instructions; without it a run is faster")
    if settings.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("--bf16: this GPU cannot compute in bfloat16; use --fp16")
    return device


def _has_no_16_bit_arithmetic():
    """Whether the CPU is of the x86 kind that has to imitate bfloat16, 40 times slower."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def autocast(settings, device):
    """The context of a forward: matrix products in bf16 or fp16 if set, else unchanged.

    Backward runs outside of it: each backward kernel takes the precision of its forward.
    """
    dtype = torch.float16 if settings.fp16 else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=settings.bf16 or settings.fp16)


def make_scaler(settings, device):
    """The gradient scaler of fp16, and for every other precision one that does nothing.

    float16 has no numbers below 6e-8, where many gradients lie. So the loss is multiplied by a
    large power of two, the gradients divided by it again before clipping, and a step whose
    gradients overflowed is skipped and the power halved. bfloat16 has float32's range: no scaler.
    """
    return torch.amp.GradScaler(device.type, enabled=settings.fp16)


def was_skipped(scaler, scale_before):
    """Whether the last `scaler.step` left the weights alone because gradients overflowed.

    With fp16, and only then, the host waits here for the device, to read the scale. `scale_before`
    costs such a wait too, unless it is read before the forwards, while the device is idle.
    """
    return scaler.is_enabled() and scaler.get_scale() < scale_before


class OutOfMemoryError(RunError):
    """A micro-batch did not fit into the memory of the device."""


@contextlib.contextmanager
def explain_out_of_memory(batch, advice):
    """Turn an out-of-memory error within into one that tells the batch's shape and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_memory and "can't allocate memory" not in str(error):  # torch's word on a CPU
            raise
        rows, length = batch["labels"].shape
        raise OutOfMemoryError(
            f"out of memory in a batch of {rows} rows of {length} sub-words, which hold "
            f"{int((batch['labels'] != -100).sum())} labels; {advice}"
        ) from error


SMALLER_MICRO_BATCHES = (
    "halve --per_device_train_batch_size and double --gradient_accumulation_steps (the same step "
    "in smaller parts), or give a smaller --max_seq_length, or --gradient_checkpointing"
)
SMALLER_EVALUATION = "give a smaller --per_device_eval_batch_size"
