"""Tests of the choice of device and precision."""

import pytest
import torch

from podium.runtime.device import has_fast_bf16


@pytest.mark.parametrize(("limit", "expected"), [("AVX512", True), ("AVX2", False)])
def test_a_processor_kept_to_avx2_has_no_fast_bf16(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: bool
) -> None:
    # ATEN_CPU_CAPABILITY=avx2 changes what PyTorch uses, not what the processor reports
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: limit)
    assert has_fast_bf16("cpu") is expected
