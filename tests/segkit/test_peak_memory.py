"""The peak of a process is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segkit import memory
from segkit.memory import peak_bytes

_CODE = "from segkit.memory import peak_bytes; print(peak_bytes())"


def test_what_was_held_and_let_go_counts() -> None:
    before = peak_bytes()
    held = np.ones(before // 8 + 30_000_000)  # beyond all that this process had before
    del held
    assert peak_bytes() >= before + 8 * 29_000_000
    assert peak_bytes() < 2**40


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system keeps no better figure")
def test_what_the_parent_holds_does_not_count() -> None:
    held = np.ones(100_000_000)  # 800 MB
    told = subprocess.run([sys.executable, "-c", _CODE], check=True, capture_output=True, text=True).stdout
    assert int(told) < held.nbytes / 4


def test_without_proc_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = peak_bytes()
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert peak_bytes() >= own * 0.9
