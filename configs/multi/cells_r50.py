"""As cells_r18.py on a ResNet-50 with light heads: FCOS and U-Net of few channels, so that most of the work is shared.

    python tools/train.py configs/multi/cells_r50.py
    python tools/benchmark.py heads --config configs/multi/cells_r50.py

Predictions of 8 images of 128 px take 1.61 s by this model and 3.35 s, 2.1 times as long, by three models in turn; the
processes hold 931 and 1,137 MiB at most (medians of 7 runs, random weights, 1 thread of an AMD EPYC with AVX512-BF16
that did other work too, torch 2.14.1, 2026-11-27). Not yet trained by us.
"""

from configs.multi.cells_r18 import config as cells_r18
from tasks.config import BackboneConfig, Experiment, FCOSConfig, UNetConfig


def config() -> Experiment:
    cfg = cells_r18()
    cfg.name = "cells_r50"
    cfg.backbone = BackboneConfig(name="resnet50", norm="bn", zero_init_last=True)
    cfg.heads["boxes"] = FCOSConfig(fpn_channels=64, tower_depth=1, scale_limits=(16, 32, 64, 128))
    cfg.heads["masks"] = UNetConfig(decoder_channels=(64, 48, 32, 24, 16))
    return cfg
