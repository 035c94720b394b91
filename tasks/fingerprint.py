"""What a data set is like, measured: the numbers that a plan follows from (Isensee et al. 2021, nnU-Net, section
"Dataset fingerprint").
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_file import NIFTI, Pixels, read_spacing, read_stored
from tasks.data.folds import group_of_each
from tasks.data.semantic import semantic_masks
from tasks.data.splits import BOXES, FILES, LABELS, MASKS, open_splits
from tasks.data.wanted import LabelKind, Wanted

Kind = Literal["boxes", "masks", "labels"]
Floats = npt.NDArray[np.float64]
SAMPLE = 100  # images that are opened, spread evenly over the training split
VALUES = 10_000  # pixels taken from each of them
MEDICAL = (".dcm", ".dicom", *NIFTI)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A training split; Q are the quantiles 0, 0.1, 0.5, 0.9, 1.

    Attributes:
        kind: what is annotated.
        labels: what labels of whole images mean.
        root: of the data.
        images: to train on.
        validation: images to validate on.
        made_split: they were held out, since the data has no validation split.
        groups: patients, files of several images and the like, which a split does not divide.
        medical: files are DICOM or NIfTI.
        classes: names.
        share: (K,) of each class among objects, images, or pixels; the rest of the pixels is background.
        heights: (Q,) pixels.
        widths: (Q,) pixels.
        spacing: median millimetres from row to row and from column to column, None if files do not say.
        channels: most that a file has, without alpha.
        pixel: stored type: uint8, uint16 or float32.
        low: 0.5th percentile of the sampled pixels.
        high: 99.5th.
        white_spread: coefficient of variation of the 99.5th percentile of each image.
        mean: (C,) of the sampled pixels.
        std: (C,) of them.
        objects: (Q,) an image; zeros without boxes.
        object_sizes: square root of the area of boxes, pixels, at the quantiles 0.02, 0.1, 0.5, 0.9, 0.98; zeros
            without boxes.
        aspect_ratios: (Q,) height by width of boxes; ones without boxes.
    """

    kind: Kind
    labels: LabelKind
    root: Path
    images: int
    validation: int
    made_split: bool
    groups: int
    medical: bool
    classes: tuple[str, ...]
    share: tuple[float, ...]
    heights: tuple[float, ...]
    widths: tuple[float, ...]
    spacing: tuple[float, float] | None
    channels: int
    pixel: Literal["uint8", "uint16", "float32"]
    low: float
    high: float
    white_spread: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    objects: tuple[float, ...]
    object_sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]


def take_fingerprint(root: Path, kind: Kind | None = None) -> Fingerprint:
    """Open the data set, count its annotations and look at a sample of its images.

    Args:
        root: folder or file of the data.
        kind: of annotations to look at; None takes boxes before masks before labels of images.

    Raises:
        UserError: nothing of that kind is there, or a file cannot be used.
    """
    kind, labels, train, val = _open(root, kind)
    made = val.report.source.endswith(f"[{val.split}]") and val.split.endswith("-val")  # arrays in a file end alike
    chosen = np.linspace(0, len(train) - 1, min(len(train), SAMPLE)).round().astype(int).tolist()
    images = [_stored(train, index) for index in chosen]
    sides = np.array([image.shape[:2] for image in images])
    channels = max(int(image.shape[2]) - (image.shape[2] in (2, 4)) for image in images)
    values = [_some_values(image, channels, number) for number, image in enumerate(images)]
    everything = np.concatenate(values)
    if not everything.size:
        raise UserError(
            f"{root}: no pixel of the images looked at is a finite number; expected images: check the files"
        )
    whites = np.array([np.percentile(own, 99.5) for own in values if own.size])  # edges of a volume may be all NaN
    boxes = train.boxes.numpy()
    across, down = (boxes[:, 2:] - boxes[:, :2]).T
    usable = (across > 0) & (down > 0)
    steps = [step for index in chosen if (step := _spacing(train, index)) is not None]
    return Fingerprint(
        kind=kind,
        labels=labels,
        root=root,
        images=len(train),
        validation=len(val),
        made_split=made,
        groups=len({group for split in ((train, val) if made else (train,)) for group in group_of_each(split, None)}),
        medical=train.name(0).lower().endswith(MEDICAL),
        classes=train.label_map.names,
        share=tuple(_shares(train, kind, chosen, sides).tolist()),
        heights=_quantiles(sides[:, 0]),
        widths=_quantiles(sides[:, 1]),
        spacing=None if not steps else (float(np.median(steps, 0)[0]), float(np.median(steps, 0)[1])),
        channels=channels,
        pixel=_pixel_type(images),
        low=float(np.percentile(everything, 0.5)),
        high=float(np.percentile(everything, 99.5)),
        white_spread=float(whites.std() / max(abs(whites.mean()), 1e-9)),
        mean=tuple(everything.mean(0).tolist()),
        std=tuple(everything.std(0).tolist()),
        objects=_quantiles(np.diff(train.offsets.numpy())),
        object_sizes=_quantiles(np.sqrt(across * down)[usable], 0.02) if usable.any() else (0.0,) * 5,
        aspect_ratios=_quantiles(down[usable] / across[usable]) if usable.any() else (1.0,) * 5,
    )


def describe(found: Fingerprint) -> list[tuple[str, str]]:
    """Rows of a table of the fingerprint."""
    rows = [
        ("images to train on", f"{found.images}"),
        ("images to validate on", f"{found.validation}{' (held out)' if found.made_split else ''}"),
        ("groups that stay together", f"{found.groups}"),
        ("height: least, median, most", _three(found.heights)),
        ("width: least, median, most", _three(found.widths)),
        ("spacing", "unknown" if found.spacing is None else "{:.3g} x {:.3g} mm".format(*found.spacing)),
        ("channels, type", f"{found.channels}, {found.pixel}"),
        ("values, 0.5 to 99.5 %", f"{found.low:g} to {found.high:g}"),
    ]
    if found.kind == "boxes":
        rows.append(("objects an image: least, median, most", _three(found.objects)))
        rows.append(("object size, pixels: 2 %, median, 98 %", _three(found.object_sizes)))
    of = {"boxes": "objects", "masks": "pixels", "labels": "images"}[found.kind]
    shown = list(zip(found.classes, found.share, strict=True))
    rows += [(f"class {name}", f"{100 * share:.3g} % of {of}") for name, share in shown[:20]]
    return rows + ([("more classes", f"{len(shown) - 20}")] if len(shown) > 20 else [])


def _open(root: Path, kind: Kind | None) -> tuple[Kind, LabelKind, Annotations, Annotations]:
    config, refused = DataConfig(root=root), None
    tables = {"boxes": BOXES, "masks": MASKS, "labels": LABELS}
    kinds: tuple[Kind, ...] = ("boxes", "masks", "labels") if kind is None else (kind,)
    for candidate in kinds:
        readers = [*FILES] if root.is_file() else [*tables[candidate]]
        if kind is None and not any(reader.recognises(root) for reader in readers if reader in tables[candidate]):
            continue
        for labels in ("single", "multi") if candidate == "labels" else ("single",):
            wanted = Wanted(
                boxes=candidate == "boxes",
                labels=labels if candidate == "labels" else None,
                masks="one" if candidate == "masks" else None,
            )
            try:
                train, val, _ = open_splits(config, 0, wanted)
            except UserError as error:
                refused = refused or error
                continue
            return candidate, labels, train, val
    raise refused or UserError(
        f"{root}: no data found; expected a folder with {'; or '.join((BOXES | MASKS | LABELS).values())}"
    )


def _stored(train: Annotations, index: int) -> Pixels:
    """(H, W, C) as it is stored."""
    if train.pixels is not None:
        image = train.pixels[index].numpy()
    else:
        image = read_stored(train.file(index), train.size(index), "auto", train.frame(index), train.slice_axis)
    return image[:, :, None] if image.ndim == 2 else image


def _pixel_type(images: list[Pixels]) -> Literal["uint8", "uint16", "float32"]:
    """The smallest type that holds the pixels of all."""
    kinds = {image.dtype.name for image in images}
    if kinds <= {"uint8"}:
        return "uint8"
    return "uint16" if kinds <= {"uint8", "uint16"} else "float32"


def _some_values(image: Pixels, channels: int, seed: int) -> Floats:
    """(VALUES, channels) pixels; grey among colour images is repeated."""
    random = np.random.default_rng(seed)
    pixels = image.reshape(-1, image.shape[2])
    pixels = pixels[random.integers(len(pixels), size=VALUES)].astype(np.float64)
    pixels = pixels[np.isfinite(pixels).all(1)]
    if pixels.shape[1] in (2, 4) and channels in (1, 3):
        pixels = pixels[:, :-1]
    return np.repeat(pixels, channels, 1) if pixels.shape[1] == 1 else pixels[:, :channels]


def _spacing(train: Annotations, index: int) -> tuple[float, float] | None:
    return None if train.pixels is not None else read_spacing(train.file(index), train.frame(index), train.slice_axis)


def _shares(train: Annotations, kind: Kind, chosen: list[int], sides: npt.NDArray[np.int64]) -> Floats:
    classes = len(train.label_map)
    if kind == "boxes":
        return np.bincount(train.labels.numpy(), minlength=classes) / max(len(train.labels), 1)
    if kind == "labels":
        assert train.image_labels is not None  # it was asked for
        own = train.image_labels.numpy()
        known: npt.NDArray[Any] = own if own.ndim == 2 else own[:, None] == np.arange(classes)
        return np.asarray(known.mean(0), np.float64)
    pixels = np.zeros(classes + 1)
    for index, (height, width) in zip(chosen, sides.tolist(), strict=True):
        mask = semantic_masks(train, index, (height, width), overlapping=False)
        pixels += np.bincount(mask.reshape(-1), minlength=256)[: classes + 1]
    shares: Floats = pixels[1:] / pixels.sum()
    return shares


def _quantiles(values: npt.NDArray[Any], end: float = 0.0) -> tuple[float, ...]:
    return tuple(np.quantile(values.astype(np.float64), (end, 0.1, 0.5, 0.9, 1 - end)).tolist())


def _three(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values[::2])
