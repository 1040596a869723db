"""Training on labelled images and finished datasets, mixed as you like."""

COMMANDS = {"train": "Config"}
