"""Weak-to-strong consistency with a teacher: the strongest plain use of unlabelled pictures (UniMatch, SENSE)."""

COMMANDS = {"unimatch": "Config"}
