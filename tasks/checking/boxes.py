"""The numbers of boxes: the form they were written in, the resolution they were drawn at, repetitions, what is lost."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tasks.checking.finding import Finding, Kind, Place, Side, first
from tasks.checking.subject import Subject
from tasks.data.evaluated_size import evaluated_part
from tasks.data.report import ReadReport

FEWEST = 20  # boxes that say something about all of them
MISREAD = 0.2  # share of boxes without area, or cut at the border, that makes one suspicious
LOST = 0.01  # share of annotations
SHORT_REACH, LONG_REACH = 0.75, 0.1  # shares of the sides of images: see `_reach`
LIMIT = 100  # objects an image that the COCO metric counts
CUT = 0.1  # share of boxes that do not fit a crop

Floats = npt.NDArray[np.float64]

BOXES_MISREAD = Kind(
    "boxes-misread",
    "error",
    f"More than {MISREAD:.0%} of the boxes have no area or are cut at the border of their image, as boxes of x, y, "
    "width, height do that are read as two corners, or the other way round.",
    "Boxes are lost, and those that remain lie somewhere else.",
)
BOXES_NORMALISED = Kind(
    "boxes-normalised",
    "error",
    "All coordinates of boxes lie between 0 and 1.",
    "Boxes are shares of the image; read as pixels, all of them lie in its corner.",
)
BOXES_RESOLUTION = Kind(
    "boxes-resolution",
    "warning",
    f"No box reaches beyond {SHORT_REACH:.0%} of the width and height, though boxes begin at the left and upper "
    "border; or many reach out of their image.",
    "Boxes were drawn on images of another resolution, and lie elsewhere in these.",
)
ANNOTATIONS_DROPPED = Kind(
    "annotations-dropped",
    "warning",
    f"Reading left out or mended more than {LOST:.0%} of the annotations or images.",
    "What was left out is background to the network.",
)
ANNOTATIONS_MENDED = Kind(
    "annotations-mended",
    "note",
    f"Reading left out or mended up to {LOST:.0%} of the annotations or images.",
    "A few mistakes in the annotations; the run takes no harm.",
)
BOXES_REPEATED = Kind(
    "boxes-repeated",
    "warning",
    "A box of one class stands twice in one image.",
    "One of the two can never be found, since overlapping detections are suppressed: the recall cannot reach 1.",
)
OBJECTS_MANY = Kind(
    "objects-many",
    "warning",
    f"A validation image has more objects than `detections_per_image`, or than the {LIMIT} that the COCO metric "
    "counts.",
    "Not all of them can be found: the recall cannot reach 1.",
)
CROP_CUTS_OBJECTS = Kind(
    "crop-cuts-objects",
    "warning",
    f"More than {CUT:.0%} of the objects are larger than `data.augment.crop`.",
    "They are never seen whole in training, but are in validation.",
)


def reading(subject: Subject) -> Iterator[Finding]:
    """What the readers dropped and mended, and boxes that look misread."""
    misread = _misread(subject)
    if misread is not None:
        yield misread
    for side, split in subject.splits.items():
        report = split.report
        lost = [(reason, found) for kind in (report.dropped, report.mended) for reason, found in kind.items()]
        lost = [(reason, found) for reason, found in lost if not reason.startswith("images without a size")]
        count = sum(found.count for _, found in lost)
        if not count or (misread is not None):
            continue
        of = max(report.images, report.boxes) + sum(found.count for found in report.dropped.values())
        shown = [f"{found.count} {reason} (such as {found.examples[0]})" for reason, found in lost]
        yield Finding(
            ANNOTATIONS_DROPPED if count > LOST * of else ANNOTATIONS_MENDED,
            f"{'training' if side == 'train' else 'validation'} data: {'; '.join(shown)}",
            "annotations that can be used as they are",
            "correct them in the annotations, or take them out",
        )


def _misread(subject: Subject) -> Finding | None:
    """xyxy and xywh taken for each other, by what both leave behind."""
    if not subject.wanted.boxes:
        return None
    reports = [split.report for split in subject.splits.values()]
    without_area = sum(_count(report, "boxes without area") for report in reports)
    outside = sum(_count(report, "boxes outside their image") for report in reports)
    clipped = sum(_count(report, "boxes clipped to their image") for report in reports)
    boxes = np.concatenate([split.boxes.numpy() for split in subject.splits.values()])
    every = len(boxes) + without_area + outside
    if every < FEWEST:
        return None
    if without_area > MISREAD * every:
        return Finding(
            BOXES_MISREAD,
            f"{without_area} of {every} boxes have no area: the second corner is left of or above the first",
            "two corners, x1 y1 x2 y2",
            "these are probably x, y, width, height; write x + width and y + height in place of the last two",
            first(_examples(subject)),
        )
    # Read as sizes, the second corner of a box is never nearer to the origin than the first one.
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    at_border = _at_border(subject)
    as_corners = ((widths >= boxes[:, 0]) & (heights >= boxes[:, 1])) | at_border
    if clipped > MISREAD * every and as_corners.mean() > 0.98:
        return Finding(
            BOXES_MISREAD,
            f"{clipped} of {every} boxes reached out of their image, and each box is at least as wide as it lies from "
            "the left border, and as high as it lies from the upper one",
            "x, y, width, height",
            "these are probably two corners, x1 y1 x2 y2; write x2 - x1 and y2 - y1 in place of the last two",
            first(_examples(subject)),
        )
    return None


def _count(report: ReadReport, reason: str) -> int:
    found = report.dropped.get(reason) or report.mended.get(reason)
    return 0 if found is None else found.count


def _examples(subject: Subject) -> list[Place]:
    counts = np.diff(subject.train.offsets.numpy())
    order = np.argsort(-counts, kind="stable")[:3]
    rows = [np.arange(*subject.train.offsets[index : index + 2].tolist()) for index in order.tolist()]
    return subject.object_places("train", np.concatenate(rows)) if rows else []


def _sizes(subject: Subject, side: Side) -> Floats:
    """(I, 2) height and width of the images, as annotated or else as looked at; NaN where neither is known."""
    sizes = subject.splits[side].sizes.numpy().astype(np.float64)
    for look in subject.looks.of(side):
        sizes[look.index] = look.size
    sizes[sizes == 0] = np.nan
    return sizes


def _at_border(subject: Subject) -> npt.NDArray[np.bool_]:
    """(N,) of all boxes, training first: whether it ends at the right or lower border of its image, or beyond."""
    found = []
    for side, split in subject.splits.items():
        sizes = _sizes(subject, side)[subject.owners(side)]
        with np.errstate(invalid="ignore"):
            found.append((split.boxes.numpy()[:, 2:] >= sizes[:, ::-1] - 1e-6).any(1))
    return np.concatenate(found)


def resolution(subject: Subject) -> Iterator[Finding]:
    """Boxes in shares of the image, or in pixels of another one."""
    if not subject.wanted.boxes:
        return
    for side, split in subject.splits.items():
        boxes = split.boxes.numpy()
        if len(boxes) < FEWEST:
            continue
        which = "training" if side == "train" else "validation"
        if boxes.max() <= 1.0 + 1e-6:
            yield Finding(
                BOXES_NORMALISED,
                f"all {len(boxes)} {which} boxes lie within {boxes.min():.3g} .. {boxes.max():.3g}",
                "pixels",
                "multiply x by the width and y by the height of the image",
                first(_examples(subject) if side == "train" else []),
            )
            continue
        out = sum(
            _count(split.report, reason) for reason in ("boxes outside their image", "boxes clipped to their image")
        )
        begin, reach = _reach(subject, side)
        if (reach < SHORT_REACH).all() and (begin < LONG_REACH).all():
            seen = f"{which} boxes begin at {begin.max():.0%} and end at {reach.max():.0%} of width and height"
        elif out > MISREAD * (len(boxes) + out) and _misread(subject) is None:
            seen = f"{out} of {len(boxes) + out} {which} boxes reach out of their image"
        else:
            continue
        yield Finding(
            BOXES_RESOLUTION,
            seen,
            "boxes in pixels of the files that are there",
            "scale the boxes by the size of the files over the size of the images that were annotated",
            first(_examples(subject) if side == "train" else []),
        )


def _reach(subject: Subject, side: Side) -> tuple[Floats, Floats]:
    """(2,) how near boxes come to the origin, and how far from it, as shares of width and height."""
    split = subject.splits[side]
    sizes = _sizes(subject, side)[subject.owners(side)][:, ::-1]
    known = np.isfinite(sizes).all(1)
    if known.sum() < FEWEST:
        return np.zeros(2), np.ones(2)
    boxes = split.boxes.numpy()[known]
    return (boxes[:, :2] / sizes[known]).min(0), (boxes[:, 2:] / sizes[known]).max(0)


def repeated(subject: Subject) -> Iterator[Finding]:
    """The same box twice."""
    if not subject.wanted.boxes:
        return
    places, count, every = [], 0, 0
    for side, split in subject.splits.items():
        keys = np.column_stack([subject.owners(side), split.labels.numpy(), split.boxes.numpy().round(3)])
        _, firsts = np.unique(keys, axis=0, return_index=True)
        again = np.setdiff1d(np.arange(len(keys)), firsts)
        places += subject.object_places(side, again)
        count, every = count + len(again), every + len(keys)
    if count:
        yield Finding(
            BOXES_REPEATED,
            f"{count} of {every} boxes, in {len(places)} images, such as {subject.name(places[0])}",
            "each object once",
            "take the copies out of the annotations",
            first(places),
        )


def many(subject: Subject) -> Iterator[Finding]:
    """More objects than can be found."""
    if not subject.wanted.boxes:
        return
    counts = np.diff(subject.val.offsets.numpy())
    for name, head in subject.config.heads.items():
        most = getattr(head, "detections_per_image", None)
        if most is None:
            continue
        over = np.flatnonzero(counts > min(most, LIMIT))
        if len(over):
            lost = int((counts[over] - min(most, LIMIT)).sum())
            change = f"set heads.{name}.detections_per_image to {counts.max()}" if most < counts.max() else ""
            yield Finding(
                OBJECTS_MANY,
                f"{len(over)} of {len(counts)} validation images, with up to {counts.max()} objects; {lost} of "
                f"{counts.sum()} objects cannot be found: detections_per_image is {most}, the metric counts {LIMIT}",
                f"at most {min(most, LIMIT)} objects in an image",
                "; ".join(filter(None, [change, "cut images with more objects than that into parts"])),
                first([Place("val", int(index), f"{counts[index]} objects") for index in over]),
            )


def crops(subject: Subject) -> Iterator[Finding]:
    """Crops that are smaller than objects."""
    data, split = subject.config.data, subject.train
    if not subject.wanted.boxes or data.augment.crop is None or not len(split.boxes):
        return
    sizes, owners = _sizes(subject, "train"), subject.owners("train")
    known = np.asarray(np.isfinite(sizes).all(1))
    scale = np.ones_like(sizes)
    for index in np.flatnonzero(known).tolist():
        height, width = sizes[index].astype(int).tolist()
        scale[index] = np.array(evaluated_part((height, width), data)[0]) / sizes[index]
    extent = (split.boxes.numpy()[:, 2:] - split.boxes.numpy()[:, :2])[:, ::-1] * scale[owners]
    large = ((extent > np.array(data.augment.crop)).any(1)) & known[owners]
    if large.sum() > CUT * known[owners].sum():
        yield Finding(
            CROP_CUTS_OBJECTS,
            f"{large.sum()} of {known[owners].sum()} objects are larger than the crop of "
            f"{data.augment.crop[0]} x {data.augment.crop[1]} pixels; the median object is "
            f"{np.median(extent[:, 0]):.0f} x {np.median(extent[:, 1]):.0f} after resizing",
            "a crop that holds most objects whole",
            "set data.augment.crop larger, or to None, or resize to a smaller data.short_side",
            first(subject.object_places("train", np.flatnonzero(large))),
        )
