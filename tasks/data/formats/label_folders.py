"""A folder of images for each class."""

from pathlib import Path, PurePosixPath

import numpy as np

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_folder import ImageFolder
from tasks.data.formats.class_list import named_classes
from tasks.data.formats.frames import expand_frames
from tasks.data.formats.image_labels import class_labels
from tasks.data.formats.readers import Reader, register_reader
from tasks.data.packing import pack_images
from tasks.data.report import ReadReport
from tasks.data.split_names import is_split_name
from tasks.data.wanted import LabelKind


@register_reader("image_folder")
class LabelFolders(Reader):
    """`CLASS/*.png`, or `SPLIT/CLASS/*.png` with splits called train, val, valid, test or the like.

    Images may lie deeper in the folder of their class, such as in a folder for each patient. Classes are those of all
    splits, sorted by name, or by value where all are numbers; a class may lack images in one split. Files of several
    frames or slices give an image for each.
    """

    def __init__(self, root: Path, options: DataConfig | None = None, labels: LabelKind = "single") -> None:
        super().__init__(root, options, labels)
        self._folder = ImageFolder(root)
        self._splits: dict[str, list[str]] | None = None

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return root.is_dir() and bool(cls(root)._layout())

    def splits(self) -> list[str]:
        return sorted(self._layout())

    def read(self, split: str, masks: bool = False) -> Annotations:
        layout = self._layout()
        everywhere = [name for names in layout.values() for name in names]
        label_map, index = named_classes(self.root, everywhere, self.options.class_names, self.labels)
        place = "." if split == "all" else split  # no folder of a split is called so, but one of a class may be
        report = ReadReport(str(self.root / place))
        names: list[str] = []
        classes: list[int] = []
        for name in layout[split]:
            inside = self._folder.images(str(PurePosixPath(place, name)))
            names += inside
            classes += [index[name]] * len(inside)
        for outside in self._folder.images(place, deep=False):
            report.drop("images outside of the folders of the classes", outside)
        for empty in sorted(set(self._folder.folders(place)) - set(layout[split])):
            report.drop("folders without images", empty)
        missing = [name for i, name in enumerate(label_map.names) if i not in classes]
        if missing:
            report.notes.append(f"no image of {', '.join(missing)}")
        files, frames = expand_frames(self.root, names, self.options.slice_axis)
        own = np.array(classes, np.int64)[files]
        return pack_images(
            split=split,
            root=self.root,
            label_map=label_map,
            report=report,
            names=[names[file] for file in files],
            image_labels=class_labels(self.root, own, label_map, self.labels),
            frames=frames,
            slice_axis=self.options.slice_axis,
        )

    def _layout(self) -> dict[str, list[str]]:
        """Folders with images, by split."""
        if self._splits is None:
            self._splits = self._find_layout()
        return self._splits

    def _find_layout(self) -> dict[str, list[str]]:
        top = [name for name in self._folder.folders() if self._folder.holds_image(name)]
        below = {name: self._holding(name) for name in top if is_split_name(name)}
        splits = {name: classes for name, classes in below.items() if classes}
        # A split without folders in it, such as test images that nobody has labelled, is none to read.
        others = [name for name in top if name not in below]
        if splits and others:
            one, other = next(iter(splits)), others[0]
            raise UserError(
                f"{self.root}: {one}/ holds a folder for each class, as a split does, and {other}/ lies beside it, as "
                f"a class does; expected CLASS/ or SPLIT/CLASS/ folders: move {other}/ away, or into the splits"
            )
        return splits or ({"all": top} if others else {})

    def _holding(self, name: str) -> list[str]:
        return [c for c in self._folder.folders(name) if self._folder.holds_image(str(PurePosixPath(name, c)))]
