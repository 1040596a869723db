"""What synthgen writes, opened by the tools that it is for; the checks are those of docs/COMPATIBILITY.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.compatibility.checks import CHECKS, Made, make
from benchmarks.compatibility.page import is_installed, version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.mark.filterwarnings("ignore")  # other people's deprecations are not ours to fail on
@pytest.mark.parametrize("name", CHECKS)
def test_every_pixel_and_id_is_read_by(name: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_installed(name):
        pytest.skip(
            f"{CHECKS[name].package} is not installed, so what it reads is not checked here; see docs/COMPATIBILITY.md"
        )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert CHECKS[name].run(made), version(CHECKS[name].package)
