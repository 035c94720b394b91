"""The padded crops that CIFAR networks are trained with: those of torchvision, zero outside at the network's input."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from heads.contract import IGNORED
from tasks.config import AugmentConfig, DataConfig
from tasks.data.augmentation.augment import Augmentation
from tasks.data.augmentation.geometry import Annotated
from tasks.data.loader import TrainingLoader
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.normalisation import Normalisation

PADDING, SIDE = 4, 32
SPEC = ImageSpec(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CONFIG = DataConfig(
    size=(SIDE, SIDE),
    batch_size=6,
    augment=AugmentConfig(crop=(SIDE, SIDE), crop_padding=PADDING, horizontal_flip=0.0),
)
# No two of its crops are alike, and none of its pixels is what lies outside.
IMAGE = np.random.default_rng(0).integers(140, 256, (SIDE, SIDE, 3), dtype=np.uint8)
OUTSIDE = [round(255 * mean) for mean in SPEC.mean]


def cropped(seed: int) -> Annotated:
    item = Annotated(IMAGE, np.array([[10.0, 4, 32, 30]]), np.arange(1))
    item.masks = (IMAGE[:, :, :1] > 200).astype(np.uint8)
    Augmentation(CONFIG, SPEC)(item, seed)
    assert item.size == (SIDE, SIDE)
    return item


def test_every_offset_of_torchvisions_random_crop() -> None:
    """As often as each other, and nothing else; masks and boxes go along."""
    tensor = torch.from_numpy(IMAGE).permute(2, 0, 1)
    padded = functional.pad(tensor, [PADDING], fill=[float(value) for value in OUTSIDE])
    offsets = [(top, left) for top in range(2 * PADDING + 1) for left in range(2 * PADDING + 1)]
    crops = {functional.crop(padded, *at, SIDE, SIDE).permute(1, 2, 0).numpy().tobytes(): at for at in offsets}
    assert len(crops) == 81
    theirs = v2.RandomCrop(SIDE, padding=PADDING, fill=dict.fromkeys([torch.Tensor, "others"], OUTSIDE))
    torch.manual_seed(0)
    assert all(theirs(tensor).permute(1, 2, 0).contiguous().numpy().tobytes() in crops for _ in range(50))
    count: Counter[tuple[int, int]] = Counter()
    for seed in range(2500):
        item = cropped(seed)
        top, left = at = crops[np.ascontiguousarray(item.image).tobytes()]
        count[at] += 1
        assert item.masks is not None
        mask = np.pad(IMAGE[:, :, 0] > 200, PADDING).astype(np.uint8)[top : top + SIDE, left : left + SIDE]
        outside = np.pad(np.zeros((SIDE, SIDE)), PADDING, constant_values=1)[top : top + SIDE, left : left + SIDE]
        np.testing.assert_array_equal(item.masks[:, :, 0], np.where(outside, IGNORED, mask))
        moved = np.array([10, 4, 32, 30]) + PADDING - np.array([left, top, left, top])
        np.testing.assert_array_equal(item.boxes[0], moved.clip(0, SIDE))
    assert count.keys() == set(offsets)
    # Chi-square of 80 degrees of freedom; beyond 125 lies a thousandth.
    assert sum((n - 2500 / 81) ** 2 / (2500 / 81) for n in count.values()) < 125


def test_what_lies_outside_is_zero_at_the_networks_input() -> None:
    """He et al. subtract the mean and then pad with zeros; half a level of 255 is lost by rounding."""
    seed = next(seed for seed in range(100) if tuple(cropped(seed).image[0, 0]) == tuple(OUTSIDE))
    stored = torch.from_numpy(np.ascontiguousarray(cropped(seed).image)).permute(2, 0, 1)[None]
    outside = (stored == torch.tensor(OUTSIDE, dtype=torch.uint8)[:, None, None]).all(dim=1)
    shown = Normalisation(SPEC)(stored).permute(0, 2, 3, 1)
    assert shown[outside].abs().max() <= 0.5 / 255 / min(SPEC.std) + 1e-6
    assert shown[~outside].min() > 0.1


@pytest.mark.parametrize("repeats", [1, 3])
def test_whatever_the_workers(repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.loader.cores_here", lambda: 2)
    annotations = pack_images(
        split="train",
        root=Path(),
        label_map=LabelMap(ids=(0, 1), names=("a", "b")),
        report=ReadReport("memory"),
        names=["a.npz"] * 24,
        image_labels=torch.arange(24) % 2,
        pixels=torch.from_numpy(IMAGE).expand(24, -1, -1, -1),
    )
    config = CONFIG.model_copy(update={"repeats": repeats})
    wanted = Wanted(boxes=False, labels="single")
    batches = [
        list(
            TrainingLoader(
                annotations,
                config.model_copy(update={"workers": workers}),
                SPEC,
                seed=1,
                divisor=32,
                wanted=wanted,
            ).steps(epoch)
        )
        for epoch in (0, 1)
        for workers in (0, 2)
    ]
    for alone, helped in (batches[:2], batches[2:]):
        assert len(alone) == len(helped) == 4
        for [one], [other] in zip(alone, helped, strict=True):
            assert torch.equal(one.images, other.images)
            assert one.image_ids == other.image_ids
    ids = [one.image_ids for [one] in batches[0]]
    assert [len(set(batch)) for batch in ids] == [6 // repeats] * 4
    images = {one.images[row].numpy().tobytes() for [one] in batches[0] for row in range(6)}
    assert len(images) > 15, "copies of an image are cropped differently"
