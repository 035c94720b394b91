"""The losses against torch's, segmentation-models-pytorch's and scipy's, and what ignored pixels may not do."""

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from heads.contract import IGNORED
from heads.segmentation_losses import LossName, SegmentationLosses, SegmentationTarget

LOSSES = get_args(LossName)
TARGETS = get_args(SegmentationTarget)
CHANNELS = {"multiclass": 4, "binary": 1, "multilabel": 3}
HEIGHT, WIDTH = 21, 17


def criterion(target: str = "multiclass", losses: tuple[str, ...] = LOSSES, **options: object) -> SegmentationLosses:
    settings = {
        "background": True,
        "focal_gamma": 2.0,
        "tversky_alpha": 0.3,
        "tversky_beta": 0.7,
        "class_weights": None,
    }
    return SegmentationLosses(dict.fromkeys(losses, 1.0), target=target, **settings | options)


def single(name: str, logits: Tensor, masks: Tensor, target: str, **options: object) -> Tensor:
    losses = criterion(target, (name,), **options)(logits, masks)
    assert list(losses) == [name]
    return losses[name]


def batch(target: str, ignored: bool = True, images: int = 3) -> tuple[Tensor, Tensor]:
    """Logits that require a gradient, and masks of smooth blobs; without class 3 in the first image."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(images, CHANNELS[target], HEIGHT, WIDTH, generator=generator) * 2
    noise = torch.randn(images, CHANNELS[target], HEIGHT, WIDTH, generator=generator)
    smooth = F.avg_pool2d(noise, 7, stride=1, padding=3)
    smooth[0, -1] = -9
    masks = smooth.argmax(dim=1, keepdim=True) if target == "multiclass" else (smooth > 0)
    masks = masks.to(torch.uint8)
    if ignored:
        masks[torch.rand(masks.shape, generator=generator) < 0.2] = IGNORED
        masks[1, :, :, 9:] = IGNORED
    return logits.requires_grad_(), masks


def assert_same(ours: Tensor, theirs: Tensor, logits: Tensor) -> None:
    """Equal values and gradients."""
    assert ours > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    own, other = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert own.any()
    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 4.0, 2.0)])
def test_cross_entropy_equals_torch(weights: tuple[float, ...] | None) -> None:
    logits, masks = batch("multiclass")
    ours = single("cross_entropy", logits, masks, "multiclass", class_weights=weights)
    given = None if weights is None else torch.tensor(weights)
    assert_same(ours, F.cross_entropy(logits, masks[:, 0].long(), given, ignore_index=IGNORED), logits)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 4.0)])
def test_binary_cross_entropy_equals_torch(weights: tuple[float, ...] | None) -> None:
    logits, masks = batch("multilabel")
    ours = single("cross_entropy", logits, masks, "multilabel", class_weights=weights)
    given = None if weights is None else torch.tensor(weights).view(-1, 1, 1)
    loss = F.binary_cross_entropy_with_logits(logits, masks.float().clamp(max=1), pos_weight=given, reduction="none")
    assert_same(ours, loss[masks != IGNORED].mean(), logits)


@pytest.mark.parametrize("target", TARGETS)
def test_dice_and_tversky_equal_smp(target: str) -> None:
    from segmentation_models_pytorch.losses import DiceLoss, TverskyLoss

    logits, masks = batch(target)
    truth = masks[:, 0].long() if target == "multiclass" else masks.long()
    assert_same(single("dice", logits, masks, target), DiceLoss(target, ignore_index=IGNORED)(logits, truth), logits)
    theirs = TverskyLoss(target, ignore_index=IGNORED, alpha=0.3, beta=0.7)(logits, truth)
    assert_same(single("tversky", logits, masks, target), theirs, logits)


def test_focal_equals_smp() -> None:
    from segmentation_models_pytorch.losses import FocalLoss
    from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits

    logits, masks = batch("multiclass", ignored=False)
    theirs = softmax_focal_loss_with_logits(logits, masks[:, 0].long(), gamma=1.5)
    assert_same(single("focal", logits, masks, "multiclass", focal_gamma=1.5), theirs, logits)
    logits, masks = batch("binary")
    theirs = FocalLoss("binary", gamma=1.5, ignore_index=IGNORED)(logits, masks.long())
    assert_same(single("focal", logits, masks, "binary", focal_gamma=1.5), theirs, logits)


@pytest.mark.parametrize("target", TARGETS)
def test_focal_without_gamma_is_cross_entropy(target: str) -> None:
    logits, masks = batch(target)
    weights = (0.5, 1.0, 4.0, 2.0)[: CHANNELS[target]]
    plain = single("cross_entropy", logits, masks, target, class_weights=weights)
    assert_same(single("focal", logits, masks, target, focal_gamma=0.0, class_weights=weights), plain, logits)
    assert single("focal", logits, masks, target, class_weights=weights) < 0.9 * plain


@pytest.mark.parametrize("target", TARGETS)
def test_lovasz_equals_smp(target: str) -> None:
    from segmentation_models_pytorch.losses import LovaszLoss

    logits, masks = batch(target)
    mode = "multiclass" if target == "multiclass" else "binary"
    theirs = LovaszLoss(mode, per_image=True, ignore_index=IGNORED)
    if target == "multilabel":  # theirs joins the channels into one; ours is the mean of theirs over them
        loss = sum(theirs(logits[:, channel], masks[:, channel]) for channel in range(3)) / 3
    else:
        loss = theirs(logits, masks[:, 0].long())
    assert_same(single("lovasz", logits, masks, target), loss, logits)


def hard_boundary_f1(said: np.ndarray, true: np.ndarray) -> float:
    """Of two binary masks, by morphology."""
    square = np.ones((3, 3), bool)
    edges = [mask & ~ndimage.binary_erosion(mask, square, border_value=1) for mask in (said, true)]
    near = [ndimage.binary_dilation(edge, square, iterations=2) for edge in edges]
    precision, recall = (edges[0] & near[1]).sum() / edges[0].sum(), (edges[1] & near[0]).sum() / edges[1].sum()
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("target", TARGETS)
def test_boundary_of_certain_predictions_is_the_f1_of_their_edges(target: str) -> None:
    _, masks = batch(target, ignored=False)
    said = masks.roll(3, dims=3)
    channels = range(CHANNELS[target])
    planes = [torch.cat([m == k for k in channels], dim=1) if target == "multiclass" else m == 1 for m in (said, masks)]
    f1 = []
    for image in range(len(masks)):
        for channel in channels:
            ours, true = (plane[image, channel].numpy() for plane in planes)
            if true.any():
                f1.append(hard_boundary_f1(ours, true))
    assert len(f1) == len(masks) * len(channels) - 1  # the class that the first image lacks
    loss = single("boundary", planes[0] * 200.0 - 100, masks, target)
    assert 0.01 < loss < 0.95
    assert float(loss) == pytest.approx(1 - np.mean(f1), abs=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_take_no_part(name: str, target: str) -> None:
    logits, masks = batch(target)
    ignored = (masks == IGNORED).expand_as(logits)
    loss = single(name, logits, masks, target)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()
    other = torch.where(ignored, 30 * torch.randn(logits.shape), logits)
    torch.testing.assert_close(single(name, other, masks, target), loss)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOSSES)
def test_ignored_margin_is_as_if_cut_off(name: str, target: str) -> None:
    """So no pixel takes an ignored neighbour for background, for an edge, or for a member of a mean."""
    logits, masks = batch(target, ignored=False)
    cut = single(name, logits[:, :, 4:15, 2:13], masks[:, :, 4:15, 2:13], target)
    margin = torch.full_like(masks, IGNORED)
    margin[:, :, 4:15, 2:13] = masks[:, :, 4:15, 2:13]
    torch.testing.assert_close(single(name, logits, margin, target), cut)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOSSES)
def test_ignored_image_is_as_if_left_out(name: str, target: str) -> None:
    logits, masks = batch(target)
    masks[1] = IGNORED
    torch.testing.assert_close(single(name, logits, masks, target), single(name, logits[[0, 2]], masks[[0, 2]], target))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_known(target: str) -> None:
    logits, masks = batch(target)
    losses = criterion(target)(logits, torch.full_like(masks, IGNORED))
    assert set(losses) == set(LOSSES)
    for loss in losses.values():
        assert loss == 0
        assert not torch.autograd.grad(loss, logits, retain_graph=True)[0].any()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_certain_logits(target: str, gamma: float) -> None:
    """Probabilities of exactly 0 and 1: the right ones cost nothing, and no gradient is infinite."""
    _, masks = batch(target)
    logits = torch.zeros(len(masks), CHANNELS[target], HEIGHT, WIDTH)
    for channel in range(CHANNELS[target]):
        true = masks[:, 0] == channel if target == "multiclass" else masks[:, channel] == 1
        logits[:, channel] = torch.where(true, 200.0, -200.0)
    logits.requires_grad_()
    for sign in (1, -1):
        losses = criterion(target, focal_gamma=gamma)(sign * logits, masks)
        for name, loss in losses.items():
            # The edge of the complement lies beside that of the object, and so agrees.
            assert (loss < 1e-5) if sign == 1 else (loss > 0.2 or name == "boundary"), name
            assert torch.autograd.grad(loss, logits, retain_graph=True)[0].isfinite().all(), name


@pytest.mark.parametrize("target", TARGETS)
def test_image_without_objects(target: str) -> None:
    """Only the losses that say something of absent classes push them down; none breaks."""
    logits, masks = batch(target)
    masks[masks != IGNORED] = 0
    losses = criterion(target)(logits, masks)
    pushes = {"cross_entropy", "focal", "lovasz"} | ({"dice", "tversky"} if target == "multiclass" else set())
    for name, loss in losses.items():
        assert torch.autograd.grad(loss, logits, retain_graph=True)[0].isfinite().all(), name
        assert (loss > 0) == (name in pushes), name


def test_background_that_is_no_class_is_ignored() -> None:
    logits, masks = batch("multiclass")
    shifted = torch.where(masks == 0, IGNORED, torch.where(masks == IGNORED, masks, masks - 1))
    for name in LOSSES:
        ours = single(name, logits[:, 1:], masks, "multiclass", background=False)
        torch.testing.assert_close(ours, single(name, logits[:, 1:], shifted, "multiclass"))


def test_weights_scale_and_name_the_losses() -> None:
    logits, masks = batch("multiclass")
    plain = criterion()(logits, masks)
    options = {"background": True, "focal_gamma": 2.0, "tversky_alpha": 0.3, "tversky_beta": 0.7, "class_weights": None}
    scaled = SegmentationLosses({"lovasz": 3.0, "dice": 0.5}, target="multiclass", **options)(logits, masks)
    assert scaled == {"lovasz": 3 * plain["lovasz"], "dice": 0.5 * plain["dice"]}


def test_float32_under_autocast() -> None:
    logits, masks = batch("multiclass")
    low = logits.detach().bfloat16()
    expected = criterion()(low.float(), masks)
    with torch.autocast("cpu", torch.bfloat16):
        found = criterion()(low, masks)
    for name in LOSSES:
        assert found[name].dtype == torch.float32
        assert found[name] == expected[name]


def test_class_weights_are_no_weights_of_the_network() -> None:
    losses = criterion(class_weights=(1.0, 2.0, 3.0, 4.0))
    assert not losses.state_dict()
    assert losses.double().class_weights.dtype == torch.float64  # it moves with the model


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every loss and its gradient, with unequal shares of the batch."""
    script = Path(__file__).with_name("distributed_segmentation_loss.py")
    started = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", tmp_path / "rendezvous"],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    runpy.run_path(str(script))["main"](0, 1, "")
    alone = json.loads(capsys.readouterr().out)
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    first, second = (json.loads(output) for output in outputs)
    assert first == second
    assert set(alone) == {f"{target}/{name}" for target in TARGETS for name in LOSSES}
    for name, (loss, *gradient) in alone.items():
        assert first[name] == pytest.approx([loss, *gradient], rel=1e-4, abs=1e-6 * math.hypot(*gradient)), name
        assert loss > 0
        assert any(gradient)
