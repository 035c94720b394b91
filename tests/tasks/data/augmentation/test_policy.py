"""Each operation equals torchvision's; deep images go through the same operations without losing values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from heads.contract import IGNORED
from tasks.data.augmentation import operations
from tasks.data.augmentation.geometry import Annotated, boxes_of
from tasks.data.augmentation.operations import Span
from tasks.data.augmentation.policy import BINS, OPERATIONS, RandomPolicy

BYTES, WORDS, HOUNSFIELD = Span(0, 255), Span(0, 65535), Span(-1000, 3000)
IMAGE = np.random.default_rng(0).integers(20, 220, (60, 90, 3), dtype=np.uint8)
IMAGE[10:30, 20:60] //= 3
TENSOR = torch.from_numpy(IMAGE).permute(2, 0, 1)
FILL = np.zeros(3)

Operation = Callable[[Any, Span], Any]
PAIRS: dict[str, tuple[Operation, Callable[[Tensor], Tensor]]] = {
    **{
        f"{name} {factor}": (
            lambda image, span, ours=ours, factor=factor: ours(image, factor, span),
            lambda tensor, theirs=theirs, factor=factor: theirs(tensor, factor),
        )
        for factor in (0.0, 0.4, 1.0, 1.9)
        for name, ours, theirs in (
            ("brightness", operations.brightness, functional.adjust_brightness),
            ("contrast", operations.contrast, functional.adjust_contrast),
            ("saturation", operations.saturation, functional.adjust_saturation),
            ("sharpness", operations.sharpness, functional.adjust_sharpness),
        )
    },
    "solarize": (lambda i, span: operations.solarize(i, 100 / 255, span), lambda t: functional.solarize(t, 100)),
    "autocontrast": (operations.autocontrast, functional.autocontrast),
    "equalize": (operations.equalize, functional.equalize),
    "posterize": (lambda i, span: operations.posterize(i, 3), lambda t: functional.posterize(t, 3)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_operations_equal_torchvision(name: str) -> None:
    ours, theirs = PAIRS[name]
    difference = ours(IMAGE, BYTES).astype(int) - theirs(TENSOR).permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= (2 if name == "equalize" else 1)  # PIL counts in whole steps there


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "posterize"])
@pytest.mark.parametrize(("dtype", "span"), [(np.uint16, WORDS), (np.uint16, Span(0, 4095)), (np.float32, HOUNSFIELD)])
def test_operations_mean_the_same_for_deep_images(name: str, dtype: Any, span: Span) -> None:
    ours, _ = PAIRS[name]
    expected = BYTES.to_unit(ours(IMAGE, BYTES))
    deep = ours(span.from_unit(BYTES.to_unit(IMAGE), dtype), span)
    assert deep.dtype == dtype
    assert np.abs(span.to_unit(deep) - expected).max() <= 1.01 / 255


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", PAIRS)
def test_operations_take_any_channels(name: str, channels: int) -> None:
    ours, _ = PAIRS[name]
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    out = ours(image, BYTES)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    flat = np.full((2, 2, channels), 70, np.uint8)
    assert ours(flat, BYTES).shape == flat.shape


def test_deep_images_keep_every_value() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    for same in (
        operations.brightness(ramp, 1.0, WORDS),
        operations.contrast(ramp, 1.0, WORDS),
        operations.autocontrast(ramp, WORDS),
        operations.equalize(ramp, WORDS),
        operations.posterize(ramp, 2),
        operations.solarize(operations.solarize(ramp, 0.0, WORDS), 0.0, WORDS),
    ):
        np.testing.assert_array_equal(same, ramp)


def item() -> Annotated:
    outlines = np.zeros((1, 60, 90), np.uint8)
    outlines[0, 20:40, 30:60] = 1
    return Annotated(IMAGE.copy(), boxes_of(outlines), np.arange(1), outlines, outlines[0, :, :, None].copy())


@pytest.mark.parametrize("magnitude", [3, 17])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
def test_moves_equal_torchvision(policy: Any, magnitude: int, negative: bool) -> None:
    chosen = RandomPolicy(policy, 2, magnitude, BYTES, FILL)
    share = magnitude / BINS * (-1 if negative else 1)
    wide = policy == "trivial_augment"
    degrees = {
        axis: np.degrees(np.arctan(share * (0.99 if wide else 0.3))) * np.array([axis == "x", axis == "y"])
        for axis in "xy"
    }
    across, down = (32, 32) if wide else (150 / 331 * 90, 150 / 331 * 60)
    soft = torch.from_numpy(np.linspace(0, 255, 90) * np.ones((3, 60, 1))).float()

    def affine(**options: Any) -> Tensor:
        given = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], "center": [0, 0], **options}
        return functional.affine(soft, **given, interpolation=InterpolationMode.BILINEAR, fill=[0.0])

    for name, theirs in (
        ("shear_x", affine(shear=degrees["x"].tolist())),
        ("shear_y", affine(shear=degrees["y"].tolist())),
        ("translate_x", affine(translate=[int(share * across), 0])),
        ("translate_y", affine(translate=[0, int(share * down)])),
        ("rotate", functional.rotate(soft, share * (135 if wide else 30), InterpolationMode.BILINEAR, fill=[0.0])),
    ):
        ours = item()
        ours.image = soft.permute(1, 2, 0).numpy().copy()
        chosen.apply(ours, name, magnitude, negative)
        difference = np.abs(ours.image - theirs.permute(1, 2, 0).numpy())
        # Either sign is drawn as often, and PIL's shear runs the other way than torchvision's on some axes.
        if name.startswith("shear"):
            other = item()
            other.image = soft.permute(1, 2, 0).numpy().copy()
            chosen.apply(other, name, magnitude, not negative)
            difference = min(difference, np.abs(other.image - theirs.permute(1, 2, 0).numpy()), key=np.mean)
        assert np.percentile(difference, 92) <= 1.0, name


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment"])
def test_annotations_go_along(policy: Any) -> None:
    chosen = RandomPolicy(policy, 1, 12, BYTES, FILL)
    for name in OPERATIONS:
        changed = item()
        chosen.apply(changed, name, 12, False)
        moves = name.startswith(("shear", "translate", "rotate"))
        assert changed.image.shape == IMAGE.shape
        assert np.array_equal(changed.boxes, item().boxes) != moves
        assert changed.masks is not None
        assert changed.outlines is not None
        np.testing.assert_array_equal(changed.boxes, boxes_of(changed.outlines))
        assert ((changed.masks == IGNORED).any()) == moves
        assert np.array_equal(changed.image, IMAGE) == (name == "identity")


def test_operations_are_drawn_evenly() -> None:
    drawn: dict[str, list[tuple[int, bool]]] = {name: [] for name in OPERATIONS}
    trivial = RandomPolicy("trivial_augment", 2, 9, BYTES, FILL)
    trivial.apply = lambda item, name, magnitude, negative: drawn[name].append((magnitude, negative))  # type: ignore[method-assign]
    for seed in range(2000):
        trivial(item(), np.random.default_rng(seed))
    counts = np.array([len(calls) for calls in drawn.values()])
    assert counts.sum() == 2000
    assert np.abs(counts - 2000 / 14).max() < 50
    magnitudes = [magnitude for calls in drawn.values() for magnitude, _ in calls]
    assert set(magnitudes) == set(range(31))
    assert 0.45 < np.mean([negative for calls in drawn.values() for _, negative in calls]) < 0.55
    calls: list[int] = []
    fixed = RandomPolicy("rand_augment", 3, 9, BYTES, FILL)
    fixed.apply = lambda item, name, magnitude, negative: calls.append(magnitude)  # type: ignore[method-assign]
    fixed(item(), np.random.default_rng(0))
    assert calls == [9, 9, 9]


def test_rand_augment_around_a_magnitude_and_not_always() -> None:
    """As timm has it: rand-m7-mstd0.5, where each operation has a chance of one half."""
    calls: list[float] = []
    varied = RandomPolicy("rand_augment", 2, 21, BYTES, FILL, magnitude_std=1.5, probability=0.5)
    varied.apply = lambda item, name, magnitude, negative: calls.append(magnitude)  # type: ignore[method-assign]
    for seed in range(2000):
        varied(item(), np.random.default_rng(seed))
    assert 1900 < len(calls) < 2100
    assert abs(np.mean(calls) - 21) < 0.15
    assert abs(np.std(calls) - 1.5) < 0.1
    calls.clear()
    strongest = RandomPolicy("rand_augment", 2, 29, BYTES, FILL, magnitude_std=50.0)
    strongest.apply = varied.apply  # type: ignore[method-assign]
    for seed in range(100):
        strongest(item(), np.random.default_rng(seed))
    assert (min(calls), max(calls)) == (0, BINS)
    changed = item()
    for name in OPERATIONS:
        varied_for_real = RandomPolicy("rand_augment", 1, 21, BYTES, FILL)
        varied_for_real.apply(changed, name, 20.7, True)  # a magnitude need not be whole
    assert changed.image.dtype == np.uint8
