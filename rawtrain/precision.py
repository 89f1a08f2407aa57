"""The device, its memory and the precision of a step, with the gradient scaler that fp16 needs.

Weights and optimizer state are float32 always. Under autocast the matrix products run in 16 bits;
the loss is computed in float32 (`loss.label_loss`).
"""

import contextlib
import logging
from collections.abc import Iterator

import torch

from rawtrain.config import TrainingSettings
from rawtrain.data.columns import IGNORED
from rawtrain.errors import RunError

logger = logging.getLogger(__name__)


def choose_device(settings: TrainingSettings):
    """The CUDA device if there is one and `use_cpu` does not forbid it, else the CPU.

    Raises ValueError for a precision that this device cannot run.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and not settings.use_cpu else "cpu")
    if settings.fp16 and device.type == "cpu":
        raise ValueError(
            "--fp16 needs a CUDA device and none was found; use --bf16, which runs on a CPU too"
        )
    emulates_bf16 = torch.backends.cpu.get_cpu_capability() == "AVX2"  # 40 times slower
    if settings.bf16 and device.type == "cpu" and emulates_bf16:
        logger.warning("--bf16: this CPU has no bfloat16 instructions; without it a run is faster")
    if settings.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("--bf16: this GPU cannot compute in bfloat16; use --fp16")
    return device


def autocast(settings: TrainingSettings, device: torch.device) -> torch.autocast:
    """The context of a forward: matrix products in bf16 or fp16 if set, else unchanged.

    Backward runs outside of it: each backward kernel takes the precision of its forward.
    """
    dtype = torch.float16 if settings.fp16 else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=settings.bf16 or settings.fp16)


def make_scaler(settings: TrainingSettings, device: torch.device) -> torch.amp.GradScaler:
    """The gradient scaler of fp16; for every other precision, one that does nothing.

    float16 has no numbers below 6e-8, and many gradients are smaller. So the loss is multiplied by
    a large power of two and the gradients are divided by it before clipping; a step whose gradients
    overflow is skipped, and the power halved. bfloat16 has the range of float32 and needs none.
    """
    return torch.amp.GradScaler(device.type, enabled=settings.fp16)


def was_skipped(scaler: torch.amp.GradScaler, scale_before: float) -> bool:
    """Whether the last `scaler.step` left the weights alone because gradients overflowed.

    With fp16, and only then, the host waits here for the device, to read the scale. `scale_before`
    costs such a wait too, unless it is read before the forwards, while the device is idle.
    """
    return scaler.is_enabled() and scaler.get_scale() < scale_before


class OutOfMemoryError(RunError):
    """A micro-batch did not fit into the memory of the device."""


@contextlib.contextmanager
def explain_out_of_memory(batch: dict[str, torch.Tensor], advice: str) -> Iterator[None]:
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
            f"{int((batch['labels'] != IGNORED).sum())} labels; {advice}"
        ) from error


SMALLER_MICRO_BATCHES = (
    "halve --per_device_train_batch_size and double --gradient_accumulation_steps (the same step "
    "in smaller parts), or give a smaller --max_seq_length, or --gradient_checkpointing"
)
SMALLER_EVALUATION = "give a smaller --per_device_eval_batch_size"
