"""A folder of images and a folder of masks, paired by name."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_folder import ImageFolder, stem_of
from tasks.data.files.mask_files import MaskFiles
from tasks.data.files.mask_values import LOSSY
from tasks.data.formats.frames import expand_frames
from tasks.data.formats.mask_classes import label_map_of, mask_classes
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.names import Names
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.split_names import is_split_name
from tasks.data.wanted import LabelKind
from tasks.label_map import LabelMap

IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MASKS = ("masks", "mask", "labels", "label", "segmentationclass", "annotations")
ENDINGS = ("", "_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "-mask")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the images and the masks of a split lie, relative to the root; classes have a folder of masks each, or
    there are none.
    """

    images: str
    masks: str
    classes: tuple[str, ...]


@register_reader("masks")
class MaskFolders(Reader):
    """`images/` and `masks/` (or `image` and `label`, `img` and `mask`, `JPEGImages` and `SegmentationClass`), as a
    whole or by split: `images/SPLIT` and `masks/SPLIT`, `SPLIT/images` and `SPLIT/masks`, or by the lists of Pascal VOC
    in `ImageSets/Segmentation/SPLIT.txt`.

    A mask is called as its image, or that and `_mask`, `_seg`, `_label` or the like. `masks/CLASS/` holds a mask for
    each class, for classes that overlap. Which value is which class: see `mask_classes`.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self._folder = ImageFolder(root)
        self._labels: LabelMap | None = None
        self._notes: list[str] = []

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return root.is_dir() and bool(cls(root)._places())

    def splits(self) -> list[str]:
        places = self._places()
        return sorted(self._lists() or places) if list(places) == ["all"] else sorted(places)

    def read(self, split: str, masks: bool = False) -> Annotations:
        places = self._places()
        listing = None if split in places else self._lists()[split]
        place = places["all" if listing is not None else split]
        report = ReadReport(str(listing or self.root / place.images))
        images, planes = self._pairs(place, listing, report)
        if not images:
            raise UserError(
                f"{self.root / place.images}: no image has a mask in {self.root / place.masks}; expected masks called "
                "as their images (a.jpg and a.png, or a_mask.png)"
            )
        label_map = self._label_map(place, report)
        if len(place.classes) > 1:  # `data.class_names` may have put them into another order
            planes = [[own[raw - 1] for raw in label_map.ids] for own in planes]
        files, frames = expand_frames(self.root, images, self.options.slice_axis)
        return pack_images(
            split=split,
            root=self.root,
            label_map=label_map,
            report=report,
            names=[images[file] for file in files],
            mask_files=MaskFiles(
                Names.pack(name for file in files for name in planes[file]),
                len(planes[0]),
                self.options.ignored_value,
            ),
            frames=frames,
            slice_axis=self.options.slice_axis,
        )

    def _places(self) -> dict[str, _Place]:
        """Where the splits lie, by name; all images together are called "all"."""
        pair = self._pair(".")
        if pair is not None:
            images, masks = pair
            inner = [name for name in self._folder.folders(images) if is_split_name(name)]
            splits = [name for name in inner if name in self._folder.folders(masks)]
            if not splits:
                return {"all": self._place(images, masks)}
            return {name: self._place(f"{images}/{name}", f"{masks}/{name}") for name in splits}
        found = {name: self._pair(name) for name in self._folder.folders()}
        return {name: self._place(*pair) for name, pair in found.items() if pair is not None}

    def _pair(self, place: str) -> tuple[str, str] | None:
        """The folders of images and of masks in `place`."""
        by_name = {name.lower(): str(PurePosixPath(place, name)) for name in self._folder.folders(place)}
        chosen = [
            next((by_name[word] for word in words if word in by_name and self._folder.holds_image(by_name[word])), None)
            for words in (IMAGES, MASKS)
        ]
        return (chosen[0], chosen[1]) if chosen[0] is not None and chosen[1] is not None else None

    def _place(self, images: str, masks: str) -> _Place:
        classes = [name for name in self._folder.folders(masks) if self._folder.holds_image(f"{masks}/{name}")]
        mirrored = set(classes) <= set(self._folder.folders(images))
        flat = bool(self._folder.images(masks, deep=False))
        return _Place(images, masks, () if mirrored or flat else tuple(classes))

    def _lists(self) -> dict[str, Path]:
        files = sorted((self.root / "ImageSets" / "Segmentation").glob("*.txt"))
        return {file.stem: file for file in files}

    def _pairs(self, place: _Place, listing: Path | None, report: ReadReport) -> tuple[list[str], list[list[str]]]:
        """Images that have a mask, and the masks of each; "" where a class has none."""
        images = self._by_stem(place.images)
        folders = [f"{place.masks}/{name}" for name in place.classes] or [place.masks]
        masks = [self._by_stem(folder) for folder in folders]
        for name in (name for by_stem in masks for name in by_stem.values()):
            if name.lower().endswith(LOSSY):
                raise UserError(
                    f"{self.root / name}: is stored as JPEG, which changes pixels; expected a mask in a lossless "
                    "file, such as PNG"
                )
        if listing is not None:
            images = _listed(listing, images)
        chosen, planes, used = [], [], set()
        for stem, image in images.items():
            own = [next((by_stem[stem + end] for end in ENDINGS if stem + end in by_stem), "") for by_stem in masks]
            if any(own):
                chosen.append(image)
                planes.append(own)
                used |= set(own)
            else:
                report.drop("images without a mask", image)
        if listing is None:
            for name in sorted({name for by_stem in masks for name in by_stem.values()} - used):
                report.drop("masks without an image", name)
        return chosen, planes

    def _by_stem(self, folder: str) -> dict[str, str]:
        """Image files by their path in `folder` without the ending, sorted."""
        found: dict[str, str] = {}
        for name in self._folder.images(folder):
            inside = PurePosixPath(name).relative_to(folder)
            stem = str(inside.with_name(stem_of(name)))
            if stem in found:
                raise UserError(
                    f"{self.root}: {found[stem]} and {name} differ in their ending alone; expected one file of a name"
                )
            found[stem] = name
        return found

    def _label_map(self, place: _Place, report: ReadReport) -> LabelMap:
        """Classes, those of all splits."""
        places = self._places().values()
        if len({place.classes for place in places}) > 1:
            shown = " | ".join(", ".join(other.classes) or "files" for other in places)
            raise UserError(f"{self.root}: the splits have different folders of masks ({shown}); expected the same")
        if len(place.classes) > 1:
            return label_map_of(self.root, list(enumerate(place.classes, 1)), self.options)
        if self._labels is None:
            every = [name for other in places for name in self._folder.images(other.masks)]
            found = ReadReport("")
            self._labels, self._notes = mask_classes(self.root, every, self.options, found), found.notes
        report.notes += self._notes
        if place.classes and len(self._labels) == 1 and self.options.class_names is None:
            return LabelMap(ids=self._labels.ids, names=place.classes)
        return self._labels


def _listed(listing: Path, images: dict[str, str]) -> dict[str, str]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{listing}: cannot be read ({error}); expected the name of an image in each line") from None
    unknown = [stem for stem in lines if stem not in images]
    if unknown:
        raise UserError(f"{listing}: there is no image {unknown[0]} ({len(unknown)} of {len(lines)} are missing)")
    return {stem: images[stem] for stem in dict.fromkeys(lines)}
