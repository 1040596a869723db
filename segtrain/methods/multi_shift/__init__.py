"""Two-stage noise-aware training on pairs: unknown objects and bad weather at once (MultiShiftSeg, NeurIPS 2024)."""

COMMANDS = {"multi-shift": "Config"}
