"""Where a figure was measured: without that it says nothing."""

import os
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "accelerate", "numpy")
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, str]:
    """Processor, cores and threads used, memory, device, versions and date, by name."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    described = {
        "date": datetime.now().astimezone().date().isoformat(),
        "processor": _processor(),
        "instructions": ", ".join(name for name in INSTRUCTIONS if capabilities.get(name)) or "unknown",
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "threads": str(torch.get_num_threads()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    for library in LIBRARIES:
        try:
            described[library] = version(library)
        except PackageNotFoundError:
            continue
    return described


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
