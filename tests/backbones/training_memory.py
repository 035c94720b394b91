"""The memory that a training step takes."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from backbones import build_backbone

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB

net = build_backbone({name!r}, activation_checkpointing={checkpointing})
for parameter in net.parameters():
    parameter.grad = torch.zeros_like(parameter)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
optimizer.step()  # makes the momenta
before = peak()
sum(level.mean() for level in net(torch.randn({images}, 3, 32, 32)).values()).backward()
optimizer.step()
print(before, peak())
"""


def memory_of_a_step(name: str, images: int, extrapolated_to: int, checkpointing: bool = True) -> float:
    """GiB at the peak of a training step of a backbone with a batch of images of 32 pixels, on the CPU.

    Measured in a process of its own with fewer `images`, for a step of the deepest networks takes minutes. What the
    process holds before the step, the step's own, and what it takes whatever the batch are all in it, the last
    multiplied: a real batch takes less.
    """
    if sys.platform != "linux":
        pytest.skip("the peak is in other units elsewhere")
    script = SCRIPT.format(name=name, images=images, checkpointing=checkpointing)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, peak = map(float, found.stdout.split())
    return before + (peak - before) / images * extrapolated_to
