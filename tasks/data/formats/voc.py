"""Pascal VOC xml (Everingham et al., The Pascal Visual Object Classes Challenge, 2010; its development kit, section 5).

Decided here:
    Coordinates are taken as they stand, x1 y1 x2 y2 in pixels. VOC's own files count from 1 and include the last
    pixel, most tools that write the format today do neither, and nothing in a file tells which it is; the difference
    is at most a pixel. Objects marked `difficult` become crowd regions: nothing is matched to them and nothing in them
    is called background, which is how VOC's evaluation treats them.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_folder import ImageFolder
from tasks.data.files.limits import read_bounded
from tasks.data.formats.boxes import as_numbers, usable_boxes
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.packing import pack
from tasks.data.report import ReadReport
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class _Page:
    """One xml file."""

    file: Path
    image: str
    size: tuple[int, int]
    classes: list[str]
    boxes: list[list[float]]
    difficult: list[bool]


@register_reader("voc")
class VocFolder(Reader):
    """A folder with `Annotations/*.xml`, `JPEGImages/` (or `images/`) and `ImageSets/Main/SPLIT.txt`; or with xml
    files beside their images, in the folder itself or one sub-folder a split.

    Classes are those of all xml files, sorted by name, with ids from 1. An image's id is the place of its xml file in
    the sorted list of all, from 1, so it is the same in every split.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self._pages: dict[str, _Page] | None = None

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return any(_xml_files(root))

    def splits(self) -> list[str]:
        listed = sorted((self.root / "ImageSets" / "Main").glob("*.txt"))
        names = {file.stem for file in listed}
        # VOC also lists each class: aeroplane_train.txt.
        found = [name for name in sorted(names) if "_" not in name or name.rpartition("_")[2] not in names]
        if found:
            return found
        folders = {str(file.parent.relative_to(self.root)) for file in _xml_files(self.root)}
        return sorted(folders) if folders.isdisjoint({".", "Annotations", "annotations"}) else ["all"]

    def read(self, split: str, masks: bool = False) -> Annotations:
        pages = self._all_pages()
        listing = self.root / "ImageSets" / "Main" / f"{split}.txt"
        if listing.is_file():
            lines = listing.read_text(errors="replace").splitlines()
            named = (line.strip() for line in lines if line.strip())
            # A name may hold spaces; the lists of a class have a number behind it.
            stems = list(dict.fromkeys(name if name in pages else name.split()[0] for name in named))
            unknown = [stem for stem in stems if stem not in pages]
            if unknown:
                raise UserError(
                    f"{listing}: {unknown[0]} has no xml file in {self.root / 'Annotations'} ({len(unknown)} of "
                    f"{len(stems)} "
                    "have none); expected one for each line"
                )
        elif split == "all":
            stems = list(pages)
        else:
            stems = [stem for stem, page in pages.items() if page.file.parent == self.root / split]
        return self._pack(split, stems, str(listing if listing.is_file() else self.root))

    def _all_pages(self) -> dict[str, _Page]:
        # Read once for all splits: the classes of one are the classes of all.
        if self._pages is None:
            files = sorted(_xml_files(self.root))
            flat = len({file.stem for file in files}) == len(files)
            keys = [file.stem if flat else f"{file.parent.name}/{file.stem}" for file in files]
            folders: dict[Path, ImageFolder] = {}
            self._pages = {}
            for key, file in zip(keys, files, strict=True):
                self._pages[key] = _read_page(file, self.root, folders)
        return self._pages

    def _pack(self, split: str, stems: list[str], source: str) -> Annotations:
        pages = self._all_pages()
        label_map = _label_map(self.root, pages.values())
        label_of = {name: index for index, name in enumerate(label_map.names)}
        place = {stem: position for position, stem in enumerate(pages, 1)}
        chosen = [pages[stem] for stem in stems]
        report = ReadReport(source)
        folder = ImageFolder(self.root)
        folder.require([page.image for page in chosen], asked_by=Path(source))
        for page in chosen:
            if not page.size[0]:
                report.mend("images without a size, taken from the file when it is loaded", page.file.name)
        image_of = np.array([i for i, page in enumerate(chosen) for _ in page.boxes], np.int64)
        sizes = np.array([page.size for page in chosen], np.int64).reshape(-1, 2)
        boxes = as_numbers([box for page in chosen for box in page.boxes])
        keep = usable_boxes(boxes, sizes[image_of], report, lambda i: chosen[image_of[i]].file.name)
        boxes = boxes[keep]
        return pack(
            split=split,
            root=self.root,
            label_map=label_map,
            report=report,
            names=[page.image for page in chosen],
            image_ids=[place[stem] for stem in stems],
            sizes=sizes,
            image_of=image_of[keep],
            boxes=boxes,
            labels=np.array([label_of[name] for page in chosen for name in page.classes], np.int64)[keep],
            crowd=np.array([flag for page in chosen for flag in page.difficult], np.bool_)[keep],
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        )


def read_voc(root: Path, split: str) -> Annotations:
    """Read one split of a folder in Pascal VOC format; see `VocFolder`.

    Raises:
        UserError: an xml file cannot be parsed, an image is missing, or a listed annotation is.
    """
    return VocFolder(root).read(split)


def _xml_files(root: Path) -> Iterable[Path]:
    for pattern in ("Annotations/*.xml", "annotations/*.xml", "*.xml", "*/*.xml"):
        files = list(root.glob(pattern))
        if files:
            return files
    return []


def _label_map(root: Path, pages: Iterable[_Page]) -> LabelMap:
    names = sorted({name for page in pages for name in page.classes})
    if not names:
        raise UserError(f"{root}: no xml file names an object; expected at least one <object> with a <name>")
    return LabelMap(ids=tuple(range(1, len(names) + 1)), names=tuple(names))


def _read_page(file: Path, root: Path, folders: dict[Path, ImageFolder]) -> _Page:
    try:
        text = read_bounded(file)
        # Entities can blow a small file up to gigabytes; in UTF-16, with a zero beside each letter, they would hide.
        if b"<!ENTITY" in text or b"<!DOCTYPE" in text or b"\0" in text:
            raise UserError(f"{file}: holds a document type definition or is not UTF-8; expected plain Pascal VOC xml")
        page = ET.fromstring(text)
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{file}: not valid xml ({error}); expected a Pascal VOC annotation") from None
    if page.tag != "annotation":
        raise UserError(f"{file}: the top element is <{page.tag}>; expected <annotation>, as Pascal VOC writes it")
    classes, boxes, difficult = [], [], []
    for entry in page.iter("object"):
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise UserError(f"{file}: an <object> has no <name>; expected the name of its class")
        corners = [entry.findtext(f"bndbox/{corner}") for corner in CORNERS]
        classes.append(name)
        boxes.append([_number(text) for text in corners])
        difficult.append(_number(entry.findtext("difficult")) == 1)
    height, width = (_number(page.findtext(f"size/{side}")) for side in ("height", "width"))
    known = all(0 < side < 2**31 and side == int(side) for side in (height, width))
    size = (int(height), int(width)) if known else (0, 0)
    return _Page(file, _image_of(file, page.findtext("filename"), root, folders), size, classes, boxes, difficult)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")


def _image_of(file: Path, stated: str | None, root: Path, folders: dict[Path, ImageFolder]) -> str:
    """Name of the image of an xml file, relative to the root: the one with its stem, else the one it states.

    The stem first, because files get renamed together while <filename> keeps the old name.
    """
    if file.parent == root or file.parent.name.lower() != "annotations":
        places = [file.parent, root / "images"]
    else:
        places = [root / "JPEGImages", root / "images", root]
    stated = (stated or "").strip()
    suffixes = dict.fromkeys([*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)])
    for place in places:
        folder = folders.setdefault(place, ImageFolder(place))
        for name in (*(file.stem + suffix for suffix in suffixes), stated):
            if name and folder.exists(name):
                return str((place / name).relative_to(root))
    return str((places[0] / (stated or file.stem + ".jpg")).relative_to(root))
