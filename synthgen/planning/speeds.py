"""What processors do in a second, for times that are operations over speed and no measurements.

What is reached of a GPU's peak comes from public figures (docs/HARDWARE.md): an H100 has 3.2 times the peak of an A100,
and renders 1.5 times (PyTorch) to 1.9 times (TensorRT) as fast.
"""

from __future__ import annotations

GPUS = {"H100": 989e12, "A100": 312e12, "RTX 4090": 165e12}  # dense bfloat16, from the makers' data sheets
REACHED = {"H100": 0.25, "A100": 0.4, "RTX 4090": 0.4}  # of the peak [guess, held against docs/HARDWARE.md]
CORE = 8e10  # operations a second of one core
PROCESS_GB = 1.4  # Python with torch and the libraries [measured: main/peak_rss_gb]


def gpu_hours(operations: float) -> dict[str, float]:
    """GPU -> hours that so many operations take on it."""
    return {gpu: operations / (REACHED[gpu] * peak) / 3600 for gpu, peak in GPUS.items()}
