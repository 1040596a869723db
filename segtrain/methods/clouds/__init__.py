"""CLOUDS: self-training on generated pictures or photographs, with pseudo-labels that SAM redraws."""

COMMANDS = {"clouds": "Config"}
