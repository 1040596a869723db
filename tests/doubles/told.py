"""What a refused command says."""

from __future__ import annotations

from typing import Any


def told(done: Any) -> str:
    """The one line that a refused command says last; no traceback."""
    assert done.exit_code == 2, (done.output, done.exception)
    assert "Traceback" not in done.output
    *before, last = done.stderr.splitlines()
    assert last.startswith("synthgen: ") and not [line for line in before if line.startswith("synthgen: ")]
    return str(last.removeprefix("synthgen: "))
