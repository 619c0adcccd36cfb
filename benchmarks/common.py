"""What all benchmarks print first."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """The machine in one line, with its load: a number measured on a busy machine is no number."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    busy = " (busy: measure again when it is idle)" if load > 0.5 else ""
    return (
        f"{names[0] if names else platform.processor()}, {cores()} cores, "
        f"Python {platform.python_version()}, load before the start {load:.1f}{busy}"
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
