"""The head contract as a test that anyone can run on a head of their own.

    def test_my_head() -> None:
        check_head(MyHead)

Everything is checked on the CPU with small random feature maps.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from backbones.contract import FeatureSpec
from heads.contract import Detections, Head, ImageLabels, Prediction, SemanticMasks
from heads.testing_probe import CLASSES, LEVELS, Probe, different

KINDS: dict[str, type[Prediction]] = {"boxes": Detections, "labels": ImageLabels, "masks": SemanticMasks}


def check_head(
    factory: Callable[..., Head], *, features: Mapping[str, FeatureSpec] = LEVELS, mask_planes: int = 1
) -> None:
    """Check that what `factory` builds keeps the promises of `Head`, and so works on every backbone and in the runner.

    Args:
        factory: a head class, or a function that takes the same `(features, num_classes)` and returns one.
        features: the levels to build it on, of strides up to 32; by default c1 to c5.
        mask_planes: planes of the masks it learns from; 3, the number of classes here, for one that takes a plane of
            each class.

    Raises:
        AssertionError: one line for each promise that is broken, and how to mend it.
    """
    probe = Probe(factory, features, mask_planes)
    head = probe.build()
    problems = list(_declaration(head))
    if not problems:  # without a sound declaration, the rest would only repeat that
        for check in CHECKS:
            try:
                problems += check(probe, probe.build())
            except Exception as error:
                reason = (str(error).strip() or "no message").splitlines()[0]
                problems.append(f"{check.__name__.strip('_')}: raises {type(error).__name__}: {reason}")
    if problems:
        raise AssertionError("\n".join([f"{type(head).__name__} breaks the head contract:", *problems]))


def _declaration(head: object) -> Iterator[str]:
    """It says what it is."""
    if not isinstance(head, Head):
        yield "it is no heads.Head; derive it from that class"
    elif getattr(head, "reads", None) not in KINDS:
        yield f"reads is {getattr(head, 'reads', None)!r}; set it to one of {', '.join(KINDS)}, what it learns from"


def _losses(probe: Probe, head: Head) -> Iterator[str]:
    """Named scalars, the same ones always, and a gradient for all that trains."""
    losses = probe.losses(head.train())
    if not isinstance(losses, dict) or not losses:
        yield f"loss returns {losses!r}; it must return a dict of scalars by name"
        return
    for name, value in losses.items():
        if value.ndim or value.dtype != torch.float32 or not value.isfinite():
            yield f"{name} is {value!r}; it must be a finite float32 scalar"
    trained = {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}
    total = torch.stack(list(losses.values())).sum()
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    for name, gradient in zip(trained, gradients, strict=True):
        if gradient is None:
            yield f"{name} trains but gets no gradient; use it in the losses, or set requires_grad=False"
        elif not gradient.isfinite().all():
            yield f"{name} gets a gradient that is not finite"
    for what, others in (
        ("in evaluation mode", probe.losses(head.eval())),
        ("of a single image", probe.losses(head.train(), images=[0])),
        ("of images without annotations", probe.losses(head, annotated=())),
        ("without any targets", probe.losses(head, targets=False)),
    ):
        if others.keys() != losses.keys():
            yield f"the losses {what} are {', '.join(others)}; they must be {', '.join(losses)} there too"
        elif not all(bool(value.isfinite()) for value in others.values()):
            yield f"a loss {what} is not finite"


def _unannotated(probe: Probe, head: Head) -> Iterator[str]:
    """An image that nobody annotated adds nothing."""
    losses = probe.losses(head.train(), annotated=())
    for name, value in losses.items():
        if value != 0:
            yield f"{name} is {value.item():.3g} where no image is annotated; it must be 0"
        if not value.requires_grad:
            yield f"{name} is cut off from the weights where no image is annotated; multiply outputs by 0 instead"
    alone, beside = probe.losses(head.eval(), images=[0]), probe.losses(head, annotated=(0,))
    for name, value in alone.items():
        if not torch.isclose(value, beside[name], rtol=1e-3, atol=1e-6):
            yield (
                f"{name} is {value.item():.6g} of one image, and {beside[name].item():.6g} with one beside it that is "
                "not annotated; leave that one out of sums and divisors"
            )


def _predictions(probe: Probe, head: Head) -> Iterator[str]:
    """One an image, of the right kind, in pixels of the original image, in training mode too."""
    expected = KINDS[head.reads]
    for training in (True, False):
        found = probe.predictions(head.train(training))
        if len(found) != len(probe.original):
            yield f"predict returns {len(found)} predictions for {len(probe.original)} images"
            return
        if not all(isinstance(one, expected) for one in found):
            kind = type(found[0]).__name__
            yield f"predict returns {kind}; a head that reads {head.reads} returns {expected.__name__}"
            return
    for one, (height, width) in zip(found, probe.original, strict=True):
        yield from _in_original_pixels(one, height, width)


def _in_original_pixels(prediction: Prediction, height: int, width: int) -> Iterator[str]:
    match prediction:
        case Detections(boxes, scores, labels):
            if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
                yield f"boxes are {tuple(boxes.shape)}, scores {tuple(scores.shape)}, labels {tuple(labels.shape)}"
            elif len(boxes) and not ((boxes >= 0) & (boxes <= boxes.new_tensor([width, height, width, height]))).all():
                yield f"boxes leave their image of {width} x {height} pixels; give them in pixels of the original one"
            elif len(labels) and not ((labels >= 0) & (labels < CLASSES)).all():
                yield f"labels go from {int(labels.min())} to {int(labels.max())}; there are {CLASSES} classes, from 0"
            if not (scores.diff() <= 0).all():
                yield "detections are not sorted by score, best first"
        case ImageLabels(scores):
            if scores.shape != (CLASSES,) or not scores.isfinite().all():
                yield f"scores are {scores!r}; expected {CLASSES} finite numbers"
        case SemanticMasks(masks):
            if masks.dtype != torch.uint8 or masks.shape[1:] != (height, width):
                yield f"masks are {tuple(masks.shape)} of {masks.dtype}; expected uint8 (P, {height}, {width})"
            elif int(masks.max()) > CLASSES:
                yield f"masks go up to {int(masks.max())}; background is 0 and the last class {CLASSES}"


def _independence(probe: Probe, head: Head) -> Iterator[str]:
    """What is predicted of an image does not depend on what else is in the batch."""
    together, alone = probe.predictions(head.eval()), probe.predictions(head, images=[1])
    if different(together[1], alone[0]):
        yield "the prediction for an image changes with the others of its batch; compute each image by itself"


def _bfloat16(probe: Probe, head: Head) -> Iterator[str]:
    """Mixed precision works, and losses stay float32."""
    with torch.autocast("cpu", torch.bfloat16):
        losses = probe.losses(head.train(), dtype=torch.bfloat16)
        probe.predictions(head.eval(), dtype=torch.bfloat16)
    for name, value in losses.items():
        if value.dtype != torch.float32 or not value.isfinite():
            yield f"{name} is {value!r} under bf16 autocast; compute losses in float32"


def _state_dict(probe: Probe, head: Head) -> Iterator[str]:
    """All that decides predictions is in the state dict."""
    other = probe.build(seed=1)
    other.load_state_dict(head.state_dict())
    if any(map(different, probe.predictions(head.eval()), probe.predictions(other.eval()))):
        yield "a second head with the same state dict predicts something else; register what it depends on as a buffer"


Check = Callable[[Probe, Head], Iterator[str]]
CHECKS: tuple[Check, ...] = (_losses, _unannotated, _predictions, _independence, _bfloat16, _state_dict)
