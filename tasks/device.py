"""Which device trains, and in which precision."""

import os
from datetime import timedelta

import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.dataclasses import DistributedDataParallelKwargs, InitProcessGroupKwargs

from backbones.errors import UserError
from tasks.allocator import keep_freed_memory
from tasks.config import RunnerConfig


def build_accelerator(config: RunnerConfig, unused_weights: bool = False) -> Accelerator:
    """Device, precision, gradient scaling and processes, as one `accelerate.Accelerator`.

    The device is CUDA, else MPS, else the CPU, unless the config names one. The precision is bf16 where the hardware
    multiplies it natively, else fp16 on CUDA, else fp32.

    Args:
        config: device and precision.
        unused_weights: some steps leave weights without a gradient, which several processes have to expect.

    Raises:
        UserError: the device or precision asked for is not there.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("runner.device is cuda, but torch sees no CUDA device; use --runner.device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("runner.device is mps, but torch sees no Apple GPU; use --runner.device cpu")
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(device) else "fp16" if device == "cuda" else "fp32"
    if precision == "fp16" and device != "cuda":
        raise UserError(f"runner.precision is fp16, which needs CUDA; the device is {device}: use bf16 or fp32")
    if config.shard and precision == "fp16":  # each process would scale by its own gradients
        raise UserError("runner.shard does not go with fp16, whose gradients are scaled; use --runner.precision bf16")
    if device == "cpu":
        keep_freed_memory()
    if config.deterministic:
        _be_deterministic()
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=unused_weights),
            # Processes that wait longer for another take it for lost: an error, upon which torchrun may start anew.
            InitProcessGroupKwargs(timeout=timedelta(seconds=3 * config.stall_seconds)),
        ],
    )


def _be_deterministic() -> None:
    """Let torch take algorithms that add in a fixed order, and raise where an operator has none.

    RoIAlign is a gather then, whose gradient has no atomic additions; see `heads.roi_align`.
    """
    # cuBLAS reads it when it is first used; with another value it would not be deterministic, and torch would raise.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware has bf16 multiplication of its own: Ampere and later, or a CPU with AMX or AVX512-BF16."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        # An older torch does not tell; it then trains in fp32, which is right anywhere.
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def describe(accelerator: Accelerator, config: RunnerConfig) -> str:
    """One line for the start of a run: "cpu (2 threads), bf16, 1 process"."""
    device = str(accelerator.device)
    if accelerator.device.type == "cpu":
        threads = torch.get_num_threads()
        device += f" ({threads} thread{'s' if threads > 1 else ''})"
    elif accelerator.device.type == "cuda":
        device += f" ({torch.cuda.get_device_name()})"
    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    count = accelerator.num_processes
    shares = ", each with its share of the weights" if config.shard and count > 1 else ""
    return f"{device}, {precision}, {count} process{'es' if count > 1 else ''}{shares}"
