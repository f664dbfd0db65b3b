"""Detection of processor cores, memory and the fastest precision."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "mixed_bfloat16"]

CPU_INFO = Path("/proc/cpuinfo")
"""Linux's list of the processor's instruction sets; other systems are taken to lack bfloat16."""

# Compute capability of Ampere, the first NVIDIA architecture with bfloat16.
AMPERE = (8, 0)


@functools.cache
def fastest_precision() -> Precision:
    """Return the Keras dtype policy that this machine trains fastest with.

    This is ``mixed_bfloat16`` if all GPUs support it or, without a GPU, if the processor has AMX or AVX-512
    instructions for it. Other machines emulate it, which is slower than ``float32``.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
        ]
        return "mixed_bfloat16" if min(capabilities) >= AMPERE else "float32"
    return "mixed_bfloat16" if {"amx_bf16", "avx512_bf16"} & _cpu_flags(CPU_INFO) else "float32"


def _cpu_flags(info: Path) -> set[str]:
    """Return the instruction sets of the processor; empty if the system does not list them."""
    lines = _cpu_lines(info)
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _cpu_lines(info: Path) -> list[str]:
    try:
        return info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def available_cores() -> int:
    """Return the number of cores that this process may use, often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> str:
    """Return a short description of the processor, the usable cores and the memory."""
    named = [line.partition(":")[2].strip() for line in _cpu_lines(CPU_INFO) if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    processor = named[0] if named else platform.processor() or platform.machine()
    return f"{available_cores()} cores of {processor}, {memory:.0f} GiB"
