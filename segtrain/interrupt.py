"""Ctrl-C that waits for a good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """While the block runs, the first Ctrl-C is only remembered: what is yielded says whether there was one.

    The second one is a KeyboardInterrupt at once. Nothing changes where Ctrl-C is ignored, and outside the main thread.
    """
    asked = False
    before: Any = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    is_ours = callable(before) and threading.current_thread() is threading.main_thread()
    if is_ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: asked
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)
