"""The options that every training command of the minis has."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from synthgen.training.loop import Schedule


def add_arguments(parser: argparse.ArgumentParser, minutes: float, batch_size: int, learning_rate: float) -> None:
    """The options that every training command has."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints, the log and the finished model"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for drawn scenes and latents; shared between trainings"
    )
    parser.add_argument("--minutes", type=_positive, default=minutes, help="time budget over all resumed runs together")
    parser.add_argument("--steps", type=_at_least_one, default=0, help="train for so many steps instead of --minutes")
    parser.add_argument("--batch-size", type=_at_least_one, default=batch_size, help="samples a step and process")
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--flat", type=float, default=0.35, help="share of the budget before the learning rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of a process; 0 = torch's default")


def check_folder(parser: argparse.ArgumentParser, option: str, folder: Path | None, file: str) -> None:
    """End with the usage and one line if a folder was given that lacks `file`:

    the loaders would take its name for a Hub id.
    """
    if folder is not None and not (folder / file).is_file():
        parser.error(f"{option} {folder}: no trained model there (it has no {file})")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def schedule_of(arguments: argparse.Namespace, **more: Any) -> Schedule:
    """The Schedule of parsed `add_arguments` options."""
    return Schedule(
        minutes=0 if arguments.steps else arguments.minutes,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        flat=arguments.flat,
        threads=arguments.threads,
        **more,
    )
