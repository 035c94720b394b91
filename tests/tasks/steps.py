"""A batch with targets of every kind, and the step that every model has to be able to take."""

import torch

from heads import (
    IGNORED,
    BoxTargets,
    Detections,
    ImageLabels,
    ImageSizes,
    LabelTargets,
    MaskTargets,
    Outlines,
    Prediction,
    SemanticMasks,
    Targets,
)
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.label_map import LabelMap
from tasks.model import Model
from tasks.optim import build_optimizer

CLASSES = LabelMap(ids=(1, 2, 5), names=("a", "b", "c"))


def batch(channels: int = 3, planes: int = 1) -> Batch:
    """Two images of different size with three classes, the second without a box."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, channels, 64, 96), dtype=torch.uint8, generator=generator)
    valid, original = torch.tensor([[64, 96], [50, 70]]), torch.tensor([[128, 192], [100, 140]])
    annotated = torch.ones(2, dtype=torch.bool)
    bits = torch.zeros(2, 2, 64, 12, dtype=torch.uint8)
    bits[0, 0, 8:40, 1:5] = bits[0, 1, 20:60, 8:10] = 255  # columns 8 to 40 and 64 to 80
    boxes = BoxTargets(
        boxes=torch.tensor([[[8.0, 8, 40, 40], [50, 10, 90, 60]], [[0, 0, 0, 0], [0, 0, 0, 0]]]),
        labels=torch.tensor([[0, 2], [-1, -1]]),
        crowd=torch.zeros(2, 2, dtype=torch.bool),
        annotated=annotated,
        outlines=Outlines(bits, torch.tensor([[True, True], [False, False]])),
    )
    masks = torch.zeros(2, planes, 64, 96, dtype=torch.uint8)
    masks[:, 0, 8:40, 8:40] = 1
    masks[:, -1, 10:60, 50:90] = 1 if planes > 1 else 3
    masks[1, :, 50:] = masks[1, :, :, 70:] = IGNORED
    targets = Targets(
        torch.tensor([11, 12]),
        boxes,
        LabelTargets(torch.tensor([[1.0, 0, 0], [0, 0, 1]]), annotated),
        MaskTargets(masks, annotated),
    )
    return Batch(images, ImageSizes((64, 96), valid, original), targets, (7, 9), ("one.png", "two.png"))


def take_step(model: Model, config: Experiment, planes: int = 1) -> None:
    """One optimizer step and a prediction; every trained weight has moved or had a gradient of zero."""
    config.optimizer.lr = 1e-4
    optimizer = build_optimizer(model, config.optimizer)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    channels = config.image.stored_channels
    losses = model.train()(batch(channels, planes))
    assert losses
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert moved <= trained.keys()
    with torch.inference_mode():
        found = model.eval().predict(batch(channels))
    assert found.keys() == config.heads.keys()
    for predictions in found.values():
        assert len(predictions) == 2
        for prediction, (height, width) in zip(predictions, batch().sizes.original.tolist(), strict=True):
            check_prediction(prediction, height, width)


def check_prediction(prediction: Prediction, height: int, width: int) -> None:
    """Whether a prediction is one of an image of this size."""
    match prediction:
        case Detections(boxes, scores, labels, cells):
            assert boxes.shape == (len(scores), 4)
            assert (boxes >= 0).all()
            assert (boxes <= torch.tensor([width, height, width, height])).all()
            assert ((labels >= 0) & (labels < len(CLASSES))).all()
            if cells is not None:
                assert prediction.image_size == (height, width)
                assert cells.shape == (len(scores), cells.shape[1], cells.shape[1])
                assert ((cells >= 0) & (cells <= 1)).all()
        case ImageLabels():
            assert prediction.scores.shape == (len(CLASSES),)
            assert torch.isfinite(prediction.scores).all()
        case SemanticMasks(masks):
            assert masks.shape[1:] == (height, width)
            assert masks.dtype == torch.uint8
            assert masks.max() <= len(CLASSES)
