"""Kills this process (SIGKILL) at a random one of its file operations below a folder, as long as there is a token for
it.

`install` hooks this process; with `doubles/site` on PYTHONPATH and MORTAL set every new Python does so by itself,
whoever starts it: workers of a pool, workers of Ray. A death takes a file out of the tokens' folder and leaves a line
(stage, process id) in the log, so a launch with five tokens dies five times at the most.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import Any

VARIABLE = "MORTAL"
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.scandir"}


def plan(under: str, most: int, tokens: str, log: str, seed: int) -> str:
    """The value of MORTAL: die at one of the first `most` operations below `under`."""
    return json.dumps({"under": under, "most": most, "tokens": tokens, "log": log, "seed": seed})


def install(text: str) -> None:
    """Arrange the death."""
    found = json.loads(text)
    under, tokens, log = found["under"].rstrip("/") + "/", found["tokens"], found["log"]
    rng = random.Random(f"{found['seed']} {os.getpid()}")
    left = rng.randint(1, found["most"])

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in OPERATIONS or not isinstance(arguments[0], str) or not arguments[0].startswith(under):
            return
        left -= 1
        if left or not _token(tokens):
            return
        stage = arguments[0].removeprefix(under).partition("/")[0]
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{stage} {os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _token(folder: str) -> bool:
    for name in os.listdir(folder):  # noqa: PTH208
        try:
            os.unlink(f"{folder}/{name}")  # noqa: PTH108
        except FileNotFoundError:  # another process has died of it
            continue
        return True
    return False
