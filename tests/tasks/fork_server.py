"""Imports the trainer once, then forks a real training process for every order, which saves each its start-up.

An order is a line of JSON on stdin: the arguments of `tools/train.py` and a file for what it prints. The answers are
two lines on stdout: the process id at once, and the exit code (negative: the signal that killed it) at the end.
"""

import json
import os
import sys
from itertools import pairwise

import segmentation_models_pytorch
import torch
from torch import Tensor, nn

import tasks.training
from backbones import Backbone, FeatureSpec, register_backbone
from tasks.cli import run, train

torch.set_num_threads(1)  # The parent must not start a thread pool, which a fork would not inherit.


@register_backbone("small_net")
class SmallNet(Backbone):
    """Small, so that saving takes milliseconds; with running statistics and with draws from the global generator."""

    def __init__(self, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.features = {f"c{level}": FeatureSpec(8 * level, min(1 << level, output_stride)) for level in range(2, 6)}
        self.stem = self._stage(in_channels, 8, 2)
        widths = [8, *(spec.channels for spec in self.features.values())]
        steps = [b // a for a, b in pairwise([2, *(spec.stride for spec in self.features.values())])]
        stages = zip(pairwise(widths), steps, strict=True)
        self.stages = nn.ModuleList(self._stage(*pair, step) for pair, step in stages)

    @staticmethod
    def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, found = self.stem(images), {}
        for name, stage in zip(self.features, self.stages, strict=True):
            x = found[name] = stage(x)
        return found


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = run(train, order["arguments"])
            sys.stdout.flush()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    assert tasks.training
    assert segmentation_models_pytorch
    serve()
