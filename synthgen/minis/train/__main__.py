"""`python -m synthgen.minis.train vae|denoiser|controlnet|sam|clip [options]`: trains one mini model; run it again to resume."""

from __future__ import annotations

import importlib
import sys

MODELS = ("vae", "denoiser", "controlnet", "sam", "clip")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODELS:
        sys.exit(f"usage: python -m synthgen.minis.train {'|'.join(MODELS)} [--help]")
    importlib.import_module(f"synthgen.minis.train.{sys.argv[1]}").main(sys.argv[2:])
