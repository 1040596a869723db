"""`python -m segtrain`."""

from __future__ import annotations

from segtrain.cli import app

if __name__ == "__main__":
    app(prog_name="segtrain")
