"""In what number format a training multiplies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthgen.training.precision import mixed_precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="no /proc/cpuinfo to compare with")
def test_a_processor_without_bfloat16_trains_in_float32() -> None:
    flags = set(CPUINFO.read_text(encoding="utf-8").split())
    assert mixed_precision("cpu") == ("bf16" if flags & {"avx512_bf16", "amx_bf16"} else "no")


@pytest.mark.parametrize(
    ("avx512", "amx", "right"), [(True, False, "bf16"), (False, True, "bf16"), (False,) * 2 + ("no",)]
)
def test_either_instruction_set_will_do(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, right: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert mixed_precision("cpu") == right


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_emulates_it_does_not_use_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert mixed_precision("cuda") == ("bf16" if native else "no")
