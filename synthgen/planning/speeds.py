"""What processors do in a second, for times that are operations over speed and no measurements."""

from __future__ import annotations

GPUS = {"H100": 989e12, "A100": 312e12, "RTX 4090": 165e12}  # dense bfloat16, from the makers' data sheets
REACHED = 0.4  # of the peak [guess]
CORE = 8e10  # operations a second of one core
PROCESS_GB = 1.4  # Python with torch and the libraries [measured: main/peak_rss_gb]
