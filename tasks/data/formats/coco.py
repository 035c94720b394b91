"""COCO detection json (https://cocodataset.org/#format-data), in the layouts people keep it in."""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from backbones.errors import UserError
from tasks.data.annotations import Annotations
from tasks.data.files.image_folder import ImageFolder
from tasks.data.files.limits import read_bounded
from tasks.data.formats.boxes import as_numbers, usable_boxes
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.packing import pack
from tasks.data.report import ReadReport
from tasks.data.segments import SegmentsBuilder
from tasks.label_map import LabelMap

ROBOFLOW = "_annotations.coco.json"
MAX_ID = 2**63 - 1


@register_reader("coco")
class CocoFolder(Reader):
    """A folder with COCO json files.

    Found are `annotations/*.json` and `*.json` (if any is called `instances_*`, only those), and
    `SPLIT/_annotations.coco.json`. The images of split S lie in `S/`, `images/S/`, `images/`, beside the json, or in
    the folder itself: the first that has one.
    """

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return bool(_json_files(root))

    def splits(self) -> list[str]:
        return sorted(_json_files(self.root))

    def read(self, split: str, masks: bool = False) -> Annotations:
        file = _json_files(self.root)[split]
        folders = [self.root / split, self.root / "images" / split, self.root / "images", file.parent, self.root]
        return read_coco(file, folders, split, masks)


def _json_files(root: Path) -> dict[str, Path]:
    files = [*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))]
    instances = [file for file in files if file.stem.startswith("instances_")]
    found = {file.parent.name: file for file in sorted(root.glob(f"*/{ROBOFLOW}"))}
    found |= {file.stem.removeprefix("instances_"): file for file in reversed(instances or files)}
    return found


def read_coco(json_file: Path, image_root: Path | Sequence[Path], split: str, masks: bool = False) -> Annotations:
    """Read one COCO json.

    Classes are sorted by category id, so that files that list them in another order agree. Boxes that are not finite,
    have no area or lie outside their image are dropped, boxes that reach out of it by more than a pixel are clipped,
    and both are counted in the report; so are annotations of unknown images and repeated entries.

    Args:
        json_file: the annotations.
        image_root: the folder that `file_name` is relative to; of several, the first that holds an image is taken.
        split: name of the split.
        masks: also keep the outlines.

    Raises:
        UserError: the file is missing, truncated, no json or not COCO; a category id is not in its list; an image id
            stands for two files; an image file is missing, or its name leads out of the folder.
    """
    report = ReadReport(str(json_file))
    with _no_garbage_collection():
        data = _load(json_file)
        label_map = _label_map(json_file, data["categories"])
        names, ids, sizes = _images(json_file, data["images"], report)
        roots = [image_root] if isinstance(image_root, Path) else image_root
        folder = _choose_folder(roots, names)
        folder.require(names, asked_by=json_file)
        rows = _annotation_rows(json_file, data["annotations"], ids, label_map, report)
        annotations = [annotation for annotation, _, _ in rows]
        image_of = np.array([image for _, image, _ in rows], np.int64)
        labels = np.array([label for _, _, label in rows], np.int64)

        boxes = as_numbers([annotation.get("bbox") for annotation in annotations])
        with np.errstate(invalid="ignore", over="ignore"):
            boxes[:, 2:] += boxes[:, :2]
        box_sizes = sizes[image_of]
        keep = usable_boxes(
            boxes,
            box_sizes,
            report,
            lambda i: f"annotation {annotations[i].get('id')} of {names[image_of[i]]}",
        )
        kept = np.flatnonzero(keep).tolist()
        areas = np.array([_area(annotations[i], boxes[i]) for i in kept], np.float64)
        crowd = np.array([annotations[i].get("iscrowd") in (1, True) for i in kept], np.bool_)
        segments = None
        if masks:
            builder = SegmentsBuilder()
            for i in kept:
                height, width = box_sizes[i].tolist()
                problem = builder.add(annotations[i].get("segmentation"), (height, width) if height else None)
                if problem:
                    report.drop(problem, f"annotation {annotations[i].get('id')} of {names[image_of[i]]}")
            segments = builder.build()
    return pack(
        split=split,
        root=folder.root,
        label_map=label_map,
        report=report,
        names=names,
        image_ids=list(ids),
        sizes=sizes,
        image_of=image_of[keep],
        boxes=boxes[keep],
        labels=labels[keep],
        crowd=crowd,
        areas=areas,
        segments=segments,
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # Millions of small containers come alive and none of them forms a cycle; scanning them doubles the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads(read_bounded(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a COCO json file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: not valid json ({error}); expected a COCO json file, this one may be cut off or damaged"
        ) from None
    if not isinstance(data, dict):
        raise UserError(
            f"{file}: not COCO: the top level is a {type(data).__name__}; expected an object with images, "
            "annotations and categories"
        )
    for part in ("images", "annotations", "categories"):
        if not isinstance(data.get(part), list):
            found = f"a {type(data[part]).__name__}" if part in data else "missing"
            raise UserError(
                f"{file}: not COCO instances: {part!r} is {found}; expected lists of images, annotations and categories"
            )
        for i, entry in enumerate(data[part]):
            if not isinstance(entry, dict):
                raise UserError(f"{file}: {part}[{i}] is {_shown(entry)}; expected an object")
    return data


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _integer(file: Path, part: str, position: int, entry: dict[str, Any], field: str) -> int:
    value = entry.get(field)
    if type(value) is int and abs(value) <= MAX_ID:
        return value
    found = f"is {_shown(value)}" if field in entry else "is missing"
    raise UserError(f"{file}: {field} of {part}[{position}] {found}; expected an integer")


def _label_map(file: Path, categories: list[dict[str, Any]]) -> LabelMap:
    if not categories:
        raise UserError(f"{file}: the list of categories is empty; expected one entry with id and name a class")
    classes = sorted((_integer(file, "categories", i, entry, "id"), i) for i, entry in enumerate(categories))
    names = []
    for _, i in classes:
        name = categories[i].get("name")
        if not isinstance(name, str):
            raise UserError(f"{file}: name of categories[{i}] is {_shown(name)}; expected a text")
        names.append(name)
    try:
        return LabelMap(ids=tuple(raw for raw, _ in classes), names=tuple(names))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{file}: {reason}; expected each category once") from None


def _images(
    file: Path, images: list[dict[str, Any]], report: ReadReport
) -> tuple[list[str], dict[int, int], npt.NDArray[np.int64]]:
    """File names, index of each raw id, and (I, 2) height and width."""
    names: list[str] = []
    ids: dict[int, int] = {}
    sizes: list[tuple[int, int]] = []
    for i, entry in enumerate(images):
        raw = _integer(file, "images", i, entry, "id")
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{file}: file_name of images[{i}] is {_shown(name)}; expected the name of an image file")
        name = name.replace("\\", "/")  # written on Windows
        if raw in ids:
            if names[ids[raw]] != name:
                raise UserError(
                    f"{file}: image id {raw} stands for {names[ids[raw]]} and {name}; expected an id of its own for "
                    "each image"
                )
            report.drop("repeated images", f"id {raw}, {name}")
            continue
        height, width = entry.get("height"), entry.get("width")
        known = all(type(side) is int and 0 < side < 2**31 for side in (height, width))
        if not known:
            report.mend("images without a size, taken from the file when it is loaded", name)
        ids[raw] = len(names)
        names.append(name)
        sizes.append((height, width) if known else (0, 0))  # type: ignore[arg-type]
    return names, ids, np.array(sizes, np.int64).reshape(-1, 2)


def _choose_folder(roots: Sequence[Path], names: list[str]) -> ImageFolder:
    folders = [ImageFolder(root) for root in roots if root.is_dir()] or [ImageFolder(roots[0])]
    return next((folder for folder in folders if any(map(folder.exists, names[:20]))), folders[0])


def _annotation_rows(
    file: Path, annotations: list[dict[str, Any]], images: dict[int, int], label_map: LabelMap, report: ReadReport
) -> list[tuple[dict[str, Any], int, int]]:
    """Annotations of known images, each with the index of its image and class."""
    label_of = {raw: index for index, raw in enumerate(label_map.ids)}
    rows = []
    seen: dict[int, dict[str, Any]] = {}
    for i, entry in enumerate(annotations):
        raw, image_id, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
        if type(raw) is int:
            first = seen.setdefault(raw, entry)
            if first is not entry:
                if first == entry:
                    report.drop("repeated annotations", f"id {raw}")
                    continue
                report.mend("annotations renumbered, their id was taken", f"id {raw}")
        if type(image_id) is not int or image_id not in images:
            report.drop(
                "annotations of an image that is not listed", f"annotation {_shown(raw)}, image {_shown(image_id)}"
            )
            continue
        if type(category) is not int or category not in label_of:
            raise UserError(
                f"{file}: category_id of annotation {_shown(raw)} (annotations[{i}]) is {_shown(category)}; "
                "expected one of the "
                f"listed categories ({label_map}): add it to the list or take the annotation out"
            )
        rows.append((entry, images[image_id], label_of[category]))
    return rows


def _area(annotation: dict[str, Any], box: npt.NDArray[np.float64]) -> float:
    area = annotation.get("area")
    if isinstance(area, int | float) and 0 < area < float("inf"):
        return float(area)
    return float((box[2] - box[0]) * (box[3] - box[1]))
