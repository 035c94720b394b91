"""One process of several that share a batch; prints the losses and gradients that all of them together arrive at.

    python distributed_loss.py RANK WORLD_SIZE RENDEZVOUS_FILE

Images differ in how many boxes they have, and those of the last process are not annotated at all.
"""

import json
import sys

import torch
from torch import distributed

from backbones.contract import FeatureSpec
from heads import FCOS, YOLO, BoxTargets, FasterRCNN, ImageSizes, RetinaNet, Targets

IMAGES = 4


def main(rank: int, world: int, rendezvous: str) -> None:
    torch.manual_seed(0)
    features = {f"c{level}": FeatureSpec(4, 1 << level) for level in range(2, 6)}
    anchors = (8, 16, 32, 64, 128)
    heads = {
        "faster_rcnn": FasterRCNN(features, 2, fpn_channels=8, box_head_channels=16, anchor_sizes=anchors),
        "retinanet": RetinaNet(features, 2, fpn_channels=8, tower_depth=1, anchor_sizes=anchors),
        "fcos": FCOS(features, 2, fpn_channels=8, tower_depth=1, scale_limits=(16, 32, 64, 128)),
        "yolo": YOLO(features, 2, fpn_channels=8, tower_depth=1),
    }
    maps = {name: torch.randn(IMAGES, 4, 64 // spec.stride, 64 // spec.stride) for name, spec in features.items()}
    corner = torch.rand(IMAGES, 3, 2) * 40
    labels = torch.tensor([[0, 1, 1], [1, -1, -1], [-1, -1, -1], [0, 0, -1]])
    targets = BoxTargets(
        boxes=torch.cat((corner, corner + 8 + torch.rand(IMAGES, 3, 2) * 16), dim=2) * (labels >= 0)[..., None],
        labels=labels,
        crowd=torch.zeros(IMAGES, 3, dtype=torch.bool),
        annotated=torch.tensor([True, True, True, False]),
    )
    seeds = torch.arange(IMAGES)

    # The first process gets three images, the second one: the averages are over samples, not over processes.
    mine = slice(None) if world == 1 else (slice(0, 3), slice(3, 4))[rank]
    size = torch.full((IMAGES, 2), 64)[mine]
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    part = BoxTargets(targets.boxes[mine], targets.labels[mine], targets.crowd[mine], targets.annotated[mine])
    found: dict[str, torch.Tensor] = {}
    for name, head in heads.items():
        losses = head.loss(
            {level: features[mine] for level, features in maps.items()},
            ImageSizes((64, 64), size, size),
            Targets(seeds[mine], part),
        )
        sum(losses.values()).backward()
        # As DistributedDataParallel does: gradients, and here losses for comparison, are averaged over processes.
        found |= {f"{name}/{loss}": value.detach() for loss, value in losses.items()}
        found |= {f"{name}/{weight}": value.grad for weight, value in head.named_parameters()}
    if world > 1:
        for value in found.values():
            distributed.all_reduce(value)
            value /= world
        distributed.destroy_process_group()
    print(json.dumps({name: value.flatten().tolist() for name, value in found.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
