"""The settings of the process keep float32 what it is."""

import torch
from torch.nn import functional as F

from rawtrain.fast import cpu


def test_float32_products_stay_float32_or_the_switch_is_put_back(monkeypatch):
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        cpu.use_fastest_true_float32()
        x, weight = torch.randn(300, 200), torch.randn(100, 200)
        error = F.linear(x, weight) - x.double() @ weight.double().T
        assert error.norm() / error.numel() ** 0.5 < 1e-4  # bfloat16: 0.05
        matmul.fp32_precision = before
        monkeypatch.setattr(cpu, "_multiplies_in_float32", lambda: False)
        cpu.use_fastest_true_float32()
        assert matmul.fp32_precision == before
    finally:
        matmul.fp32_precision = before


def test_a_bfloat16_product_is_distinguished_from_a_float32_one(monkeypatch):
    assert cpu._multiplies_in_float32()
    rounded = lambda a, b: a.bfloat16().float() @ b.bfloat16().float().T  # noqa: E731
    monkeypatch.setattr(cpu.F, "linear", rounded)
    assert not cpu._multiplies_in_float32()
