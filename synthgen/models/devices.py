"""What `execution.device` and `execution.dtype` mean, said once for every backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from synthgen.errors import ModelError

if TYPE_CHECKING:
    import torch


def torch_device(execution: Any) -> torch.device:
    """`auto` is the first CUDA device, else Apple's, else the CPU. Raises ModelError for a device that is not there."""
    import torch

    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"execution.device {name!r}: not a device; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ModelError(
            f"execution.device {name!r}: no such GPU here ({torch.cuda.device_count()} found); use auto or cpu"
        )
    return device


def device_of_worker(name: str, worker: int) -> str:
    """`execution.device` of a numbered worker process of this machine: `auto` and `cuda` spread over its GPUs."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{worker % count}" if count > 1 and name in ("auto", "cuda") else name


def torch_dtype(execution: Any, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 elsewhere."""
    import torch

    if execution.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[execution.dtype]


def give_memory_back() -> None:
    """Free what is no longer used, on the GPU too.

    Pipelines hold themselves in circles, so dropping the last name is not enough.
    """
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def use_threads(execution: Any) -> None:
    """Give torch `execution.num_threads` CPU threads; 0 leaves its own choice."""
    if execution.num_threads:
        import torch

        torch.set_num_threads(execution.num_threads)


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """torch's CPU threads for a while; 0 = leave as is."""
    import torch

    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
