"""Where a figure was measured: without that it says nothing."""

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# Ours and those that it is compared with; whichever are installed.
LIBRARIES = (
    *("torch", "torchvision", "timm", "segmentation-models-pytorch", "accelerate", "numpy"),
    *("pycocotools", "hotcoco", "faster-coco-eval", "albumentations", "opencv-python-headless", "pillow"),
)
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, str]:
    """Processor, cores and threads used, memory, device, versions, commit and date, by name."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    described = {
        "date": datetime.now().astimezone().date().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "instructions": ", ".join(name for name in INSTRUCTIONS if capabilities.get(name)) or "unknown",
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "threads": str(torch.get_num_threads()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
        described["cuda"] = str(torch.version.cuda)
    for library in LIBRARIES:
        try:
            described[library] = version(library)
        except PackageNotFoundError:
            continue
    return {name: value for name, value in described.items() if value}


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _commit() -> str:
    """Of this checkout, marked where files differ from it; empty where there is none, or no git."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return ""  # installed below somebody else's repository
        return git("rev-parse", "--short=12", "HEAD") + " with changes" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return ""
