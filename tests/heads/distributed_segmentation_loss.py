"""One process of several that share a batch; prints every loss and gradient that all of them together arrive at.

    python distributed_segmentation_loss.py RANK WORLD_SIZE RENDEZVOUS_FILE

The first process has three images, of which one is ignored, the second one; classes differ.
"""

import json
import sys
from typing import get_args

import torch
from torch import distributed
from torch.nn import functional as F

from heads.contract import IGNORED
from heads.segmentation_losses import LossName, SegmentationLosses, SegmentationTarget

IMAGES, SIDE = 4, 16


def main(rank: int, world: int, rendezvous: str) -> None:
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    mine = slice(None) if world == 1 else (slice(0, 3), slice(3, 4))[rank]
    found = {}
    for target in get_args(SegmentationTarget):
        generator = torch.Generator().manual_seed(0)
        channels = 1 if target == "binary" else 3
        # A weight a channel and column stands for those of a network.
        weight = torch.ones(channels, 1, SIDE, requires_grad=True)
        logits = 2 * torch.randn(IMAGES, channels, SIDE, SIDE, generator=generator) * weight
        smooth = F.avg_pool2d(torch.randn(IMAGES, channels, SIDE, SIDE, generator=generator), 5, 1, 2)
        smooth[3, -1] = -9
        masks = (smooth.argmax(dim=1, keepdim=True) if target == "multiclass" else smooth > 0).to(torch.uint8)
        masks[1] = IGNORED
        masks[0, :, 5:] = IGNORED
        losses = SegmentationLosses(
            dict.fromkeys(get_args(LossName), 1.0),
            target=target,
            background=True,
            focal_gamma=2.0,
            tversky_alpha=0.3,
            tversky_beta=0.7,
            class_weights=(1.0, 2.0, 0.5)[:channels],
        )(logits[mine], masks[mine])
        for name, loss in losses.items():
            gradient = torch.autograd.grad(loss, weight, retain_graph=True)[0]
            # As DistributedDataParallel does: gradients, and here losses for comparison, are averaged over processes.
            both = torch.cat((loss.detach().view(1), gradient.flatten()))
            if world > 1:
                distributed.all_reduce(both)
                both /= world
            found[f"{target}/{name}"] = both.tolist()
    if world > 1:
        distributed.destroy_process_group()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
