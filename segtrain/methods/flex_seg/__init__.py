"""Domain generalisation with image pairs that do not fit their masks exactly (FLEX-Seg, arXiv 2511.22948)."""

COMMANDS = {"flex-seg": "Config"}
