"""What is timed: for each workload a batch, our run on it, and the other library's from the same weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from heads import Targets
from tasks.benchmark.accelerator import device
from tasks.benchmark.arguments import WorkloadName
from tasks.benchmark.choice import OURS
from tasks.benchmark.ours import LABELS, from_workload, make_batch
from tasks.benchmark.peers import CifarResNet20, Switches, first_loss, prediction, training_step
from tasks.config import (
    BackboneConfig,
    ClassificationConfig,
    DeepLabV3PlusConfig,
    FasterRCNNConfig,
    HeadConfig,
    UNetConfig,
)
from tasks.data.formats.cells import CLASSES
from tasks.data.sample import Batch
from tasks.image_spec import ImageSpec

PRECISIONS = {OURS: "auto", f"{OURS} fp32": "fp32"}
DEFAULT, CHANNELS_LAST, ALL = Switches(), Switches(channels_last=True), Switches(bf16=True, channels_last=True)
PLAIN = {"default": DEFAULT, "channels-last": CHANNELS_LAST, "bf16 channels-last": ALL}


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to time.

    Attributes:
        train: one step of the optimizer.
        infer: predictions for the batch.
        loss: of the batch, in the contestant's precision: of equal networks on equal images, equal.
    """

    train: Callable[[], object]
    infer: Callable[[], object]
    loss: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Workload:
    """A network and its batch.

    Attributes:
        head: of ours, by the name of what it learns.
        backbone: of ours.
        batch: images.
        side: height and width, pixels.
        library: the peer's.
        peers: names of its contestants, the library's default call first.
    """

    head: tuple[str, HeadConfig]
    backbone: BackboneConfig
    batch: int
    side: int
    library: str
    peers: Mapping[str, Switches]


def _frozen(name: str) -> bool:
    return name.startswith("frozen")


WORKLOADS: dict[WorkloadName, Workload] = {
    "detection": Workload(
        ("boxes", FasterRCNNConfig()),
        BackboneConfig(name="resnet50", norm="frozen_bn", frozen_stages=2),
        2,
        512,
        "torchvision",
        {
            "default": DEFAULT,
            "bf16 channels-last": ALL,
            "frozen norm": DEFAULT,
            "frozen norm channels-last": CHANNELS_LAST,
            "frozen norm bf16 channels-last": ALL,
        },
    ),
    "unet": Workload(("masks", UNetConfig()), BackboneConfig(name="resnet34"), 4, 256, "smp", PLAIN),
    "deeplabv3plus": Workload(
        ("masks", DeepLabV3PlusConfig()),
        BackboneConfig(name="resnet50", output_stride=16),
        4,
        256,
        "smp",
        PLAIN,
    ),
    "classification": Workload(
        ("labels", ClassificationConfig()), BackboneConfig(name="resnet50"), 16, 224, "timm", PLAIN
    ),
    "cifar": Workload(
        ("labels", ClassificationConfig()),
        BackboneConfig(name="cifar_resnet20", options={"shortcut": "B"}),
        128,
        32,
        "torchvision blocks",
        PLAIN,
    ),
}


def contestants(name: WorkloadName, batch: int | None, side: int | None) -> dict[str, Callable[[Path], Contestant]]:
    """Of a workload, what builds each contestant, by name, ours first; each is given a folder of its own to write to.

    Args:
        name: of the workload.
        batch: images; None is the workload's.
        side: pixels; None is the workload's.
    """
    work = WORKLOADS[name]
    data = make_batch(work.head[0], batch or work.batch, side or work.side)
    ours = {
        label: lambda folder, precision=precision: _ours(name, precision, data, folder)
        for label, precision in PRECISIONS.items()
    }
    theirs = {f"{work.library} {label}": lambda folder, label=label: _theirs(name, label, data) for label in work.peers}
    return {**ours, **theirs}


def library(name: WorkloadName) -> str:
    """Whose network a workload is compared with, as `--peer` has it."""
    return WORKLOADS[name].library.split()[0]


def _ours(name: WorkloadName, precision: str, batch: Batch, folder: Path) -> Contestant:
    """Our runner on a given batch, with the peer's initial weights."""
    work = WORKLOADS[name]
    first = next(iter(work.peers))
    weights = folder / "weights.safetensors"
    state = {key: tensor.contiguous().clone() for key, tensor in _network(name, _frozen(first)).state_dict().items()}
    save_file(state, weights)
    ours = from_workload(work.head, work.backbone, batch, folder, precision=precision, weights=weights)
    return Contestant(ours.train, ours.infer, ours.loss)


def _theirs(name: WorkloadName, label: str, batch: Batch) -> Contestant:
    work = WORKLOADS[name]
    switches = work.peers[label]
    model, batch = _network(name, _frozen(label)).to(device()), batch.to(device())
    images = batch.images.float() / 255  # as a data loader of theirs gives them
    if work.head[0] != "boxes":
        mean, std = (
            torch.tensor(values, device=device())[:, None, None] for values in (ImageSpec().mean, ImageSpec().std)
        )
        images = (images - mean) / std
    if switches.channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    given = list(images) if work.head[0] == "boxes" else images
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    loss = _loss(work.head[0], given, batch.targets)
    return Contestant(
        training_step(model, loss, optimizer, switches),
        prediction(model, given, switches),
        lambda: first_loss(model, loss, switches),
    )


def _network(name: WorkloadName, frozen: bool) -> nn.Module:
    """The peer's network with the same random weights each time."""
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        return _build(name, frozen)


def _build(name: WorkloadName, frozen: bool) -> nn.Module:
    network: nn.Module
    match name:
        case "detection":
            from torchvision.models.detection import FasterRCNN
            from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
            from torchvision.ops import FrozenBatchNorm2d

            norm: dict[str, Any] = {"norm_layer": FrozenBatchNorm2d if frozen else nn.BatchNorm2d}
            body = resnet_fpn_backbone(
                backbone_name="resnet50", weights=None, trainable_layers=3 if frozen else 5, **norm
            )
            network = FasterRCNN(body, len(CLASSES) + 1, _skip_resize=True)  # type: ignore[no-untyped-call]
        case "unet" | "deeplabv3plus":
            import segmentation_models_pytorch as smp

            kind = smp.Unet if name == "unet" else smp.DeepLabV3Plus
            encoder = WORKLOADS[name].backbone.name
            network = kind(encoder, encoder_weights=None, classes=len(CLASSES) + 1)
        case "classification":
            import timm

            network = timm.create_model("resnet50", num_classes=LABELS)
        case _:
            network = CifarResNet20(LABELS)
    return network


def _loss(kind: str, images: Any, targets: Targets) -> Callable[[nn.Module], Tensor]:
    match kind:
        case "boxes":
            assert targets.boxes is not None
            given = [
                {"boxes": boxes, "labels": labels + 1}
                for boxes, labels in zip(targets.boxes.boxes, targets.boxes.labels, strict=True)
            ]
            return lambda model: torch.stack(list(model(images, given).values())).sum()
        case "masks":
            from segmentation_models_pytorch.losses import DiceLoss

            assert targets.masks is not None
            masks, dice = targets.masks.masks[:, 0].long(), DiceLoss("multiclass", from_logits=True)

            def loss(model: nn.Module) -> Tensor:
                logits = model(images)
                value: Tensor = F.cross_entropy(logits, masks) + dice(logits, masks)
                return value

            return loss
        case _:
            assert targets.labels is not None
            labels = targets.labels.values.argmax(dim=1)
            return lambda model: F.cross_entropy(model(images), labels)
