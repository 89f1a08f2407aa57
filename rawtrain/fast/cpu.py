"""Settings of the process that make the same arithmetic on a CPU cheaper; the commands set them."""

import ctypes
import sys

import torch
from torch.nn import functional as F

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt, from glibc's malloc.h


def tune_process(device: torch.device) -> None:
    if device.type == "cpu":
        keep_freed_memory()
        use_fastest_true_float32()


def keep_freed_memory() -> None:
    """Have malloc keep large blocks for the next step instead of giving them back to the kernel.

    By default glibc returns every freed block above 32 MB, and the next step pays for clearing it
    page by page: a tenth of a masked-LM step in bfloat16. Other C libraries lack the call or refuse
    it, and nothing changes.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**28)  # more than that is given back


def use_fastest_true_float32() -> None:
    """Have oneDNN multiply float32 matrices, if it computes them in true float32 on this CPU.

    By default torch asks MKL, whose kernels are slower by a tenth to a half on processors that are
    not Intel's. The only switch permits oneDNN to round to bfloat16; it does so where the CPU has
    matrix units for it (AMX), and then the switch is put back. Whether it does is measured.
    """
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:  # before torch 2.9
        return
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    if not _multiplies_in_float32():
        matmul.fp32_precision = before


def _multiplies_in_float32() -> bool:
    """Whether products of several shapes are as exact as float32 allows, and not as bfloat16."""
    generator = torch.Generator().manual_seed(0)
    for rows, width, columns in ((8, 64, 64), (128, 384, 1536), (520, 768, 768)):
        a = torch.randn(rows, width, generator=generator)
        b = torch.randn(columns, width, generator=generator)
        exact = a.double() @ b.double().T
        for product in (F.linear(a, b), torch.bmm(a[None], b.T[None])[0]):
            error = (product - exact).norm() / exact.norm()
            if error > 1e-6:  # float32: 3e-7, bfloat16: 2e-3
                return False
    return True
