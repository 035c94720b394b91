"""From `data.*` in a config to the two splits that a run needs, found, asked for, or made."""

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.companion_labels import with_labels_of, with_object_counts
from tasks.data.folds import divide, group_of_each, make_folds

# Importing a reader's module registers it.
from tasks.data.formats.cells import CellsFolder
from tasks.data.formats.cifar import CifarBatches
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.csv_table import CsvTable
from tasks.data.formats.label_folders import LabelFolders
from tasks.data.formats.mask_classes import MAX_CLASSES
from tasks.data.formats.mask_folders import MaskFolders
from tasks.data.formats.mnist import MnistFiles
from tasks.data.formats.npz_arrays import NpzArrays
from tasks.data.formats.readers import Reader, readers
from tasks.data.formats.voc import VocFolder
from tasks.data.split_names import choose_splits
from tasks.data.wanted import Wanted
from tasks.seeding import derive_seed

# What `data.format=auto` looks for, in this order.
BOXES: dict[type[Reader], str] = {
    CocoFolder: "COCO json (annotations/instances_*.json, *.json, */_annotations.coco.json)",
    VocFolder: "Pascal VOC xml (Annotations/*.xml)",
}
TABLES: dict[type[Reader], str] = {
    CsvTable: "a table with a column for the image (labels.csv, train.csv and val.csv)",
    NpzArrays: "arrays (*.npz)",
}
# Masks that are drawn come before outlines; folders of images are taken for classes when nothing else is there.
MASKS: dict[type[Reader], str] = {
    MaskFolders: "images/ and masks/ (or image and label, JPEGImages and SegmentationClass)",
    CocoFolder: BOXES[CocoFolder],
    **TABLES,
}
LABELS: dict[type[Reader], str] = {
    **TABLES,
    CifarBatches: "CIFAR batches (cifar-10-batches-py/, ...)",
    MnistFiles: "MNIST files (raw/train-images-idx3-ubyte, ...)",
    LabelFolders: "a folder of images for each class (CLASS/*, SPLIT/CLASS/*)",
}
FILES = (CsvTable, NpzArrays)  # formats of a single file

Splits = tuple[Annotations, Annotations, list[str]]


def open_splits(config: DataConfig, seed: int, wanted: Wanted | None = None) -> Splits:
    """The training and the validation split, and what a person should be told about them, a line each.

    A split that is not there is made from the other: a share of `val_fraction` of the images, drawn by `seed`, is held
    out; with `folds`, one of them is. See `folds` for what stays together.

    Args:
        config: root, format, names of the splits, how to make one.
        seed: of a made split.
        wanted: the targets that the splits must bring; None is boxes.

    Raises:
        UserError: no data there, a split that was asked for is not among those found, splits that disagree on the
            classes, no training images, nothing to learn from, or anything that a reader refuses.
    """
    if config.sources:
        raise UserError(
            f"data.sources names {', '.join(config.sources)}, and this command takes one data set; give it with "
            "data.root, and data.sources {}"
        )
    wanted = wanted or Wanted()
    reader = _open_reader(config, wanted)
    train_name, val_name = choose_splits(reader.splits(), config.train, config.val)
    messages = []
    given = config.folds is None and train_name is not None and val_name is not None
    if given:
        train, val = (_read(reader, str(name), config, wanted) for name in (train_name, val_name))
        reports = [train.report, val.report]
    else:
        whole = _read(reader, str(train_name or val_name), config, wanted)
        reports = [whole.report]
        if config.folds is not None:
            train, val = _hold_out_fold(whole, config, seed)
            how = f"fold {config.fold} of {config.folds} is held out"
            if train_name is not None and val_name is not None:
                messages.append(
                    f"{reader.root}: the split {val_name!r} is not used, since data.folds is set; set that to None to "
                    "evaluate on it"
                )
        else:
            train, val = make_split(whole, config.val_fraction, config.group_by, seed)
            how = f"no {'validation' if train_name else 'training'} split found; made one"
        messages.append(
            f"{reader.root}: {how}: {len(train)} images of {whole.split!r} to train on, {len(val)} held out "
            f"(seed {seed}{_grouping(whole, config)})"
        )
    _require_usable(reader, train, val, wanted)
    messages += map(str, reports)
    if given:
        messages += _overlaps(train, val, config)
    return train, val, messages


def open_folds(config: DataConfig, wanted: Wanted | None = None) -> Annotations:
    """The split that `data.folds` divides, undivided.

    Raises:
        UserError: see `open_splits`.
    """
    wanted = wanted or Wanted()
    reader = _open_reader(config, wanted)
    train_name, val_name = choose_splits(reader.splits(), config.train, config.val)
    return _read(reader, str(train_name or val_name), config, wanted)


def make_split(
    split: Annotations, val_fraction: float, group_by: str | None, seed: int
) -> tuple[Annotations, Annotations]:
    """Hold out a share of the images, with each class in its share.

    Args:
        split: what to divide.
        val_fraction: share of the images held out, between 0 and 1; whole groups are, so it is met only nearly.
        group_by: regular expression searched in the file name; images whose first group (or whole match) is equal stay
            together. Groups of the data set itself come first.
        seed: of the draw.

    Raises:
        UserError: the expression is none or does not match, or there are too few images or groups.
    """
    train, val = divide(split, [1 - val_fraction, val_fraction], derive_seed(seed, "split"), group_by)
    return split.select(train, f"{split.split}-train"), split.select(val, f"{split.split}-val")


def _hold_out_fold(whole: Annotations, config: DataConfig, seed: int) -> tuple[Annotations, Annotations]:
    count, fold = config.folds or 0, config.fold
    if fold >= count:
        raise UserError(f"data.fold is {fold}; expected 0 to {count - 1}, as data.folds is {count}")
    folds = make_folds(whole, count, seed, config.group_by)
    rest = sorted(index for number, part in enumerate(folds) if number != fold for index in part.tolist())
    return whole.select(rest, f"{whole.split}-without-fold{fold}"), whole.select(
        folds[fold], f"{whole.split}-fold{fold}"
    )


def _grouping(whole: Annotations, config: DataConfig) -> str:
    if whole.groups is not None:
        return ", in the groups of the data"
    return f", grouped by {config.group_by}" if config.group_by else ""


def _read(reader: Reader, split: str, config: DataConfig, wanted: Wanted) -> Annotations:
    outlines = wanted.outlines or wanted.masks is not None or config.augment.copy_paste > 0
    annotations = reader.read(split, masks=outlines)
    if wanted.labels is None or annotations.image_labels is not None:
        return annotations
    if config.count_objects is not None:
        return with_object_counts(annotations, config.count_objects, wanted.labels)
    table = reader.table if isinstance(reader, CellsFolder) else config.image_labels
    if table is None:
        return annotations
    if not table.is_file():
        raise UserError(f"data.image_labels {table} is not a file; expected a table (CSV) that names the images")
    # The names of classes in the config are those of objects.
    options = config.model_copy(update={"class_names": None})
    return with_labels_of(annotations, CsvTable(table, options, wanted.labels))


def _require_usable(reader: Reader, train: Annotations, val: Annotations, wanted: Wanted) -> None:
    if (train.label_map, train.label_classes) != (val.label_map, val.label_classes):
        raise UserError(
            f"{reader.root}: the splits {train.split!r} and {val.split!r} list different categories "
            f"({train.label_map} | {val.label_map}); expected the same ids and names in both"
        )
    for split in (train, val):
        if not len(split):
            raise UserError(f"{split.report.source}: 0 images in the split {split.split!r}; expected at least one")
    if wanted.boxes:
        _require_boxes(train)
    if wanted.outlines:
        _require_outlines(train)
    if wanted.labels is not None:
        _require_labels(train)
    if wanted.masks is not None:
        _require_masks(train, wanted)


def _require_boxes(train: Annotations) -> None:
    if not len(train.boxes):
        raise UserError(
            f"{train.report.source}: no usable box in the split {train.split!r}; expected at least one to learn from"
        )


def _require_outlines(train: Annotations) -> None:
    if train.segments is None or not train.segments.drawn(slice(0, len(train.boxes))).any():
        raise UserError(
            f"{train.report.source}: no object of the split {train.split!r} has an outline; expected COCO json with "
            "segmentations, from which a head learns instances: give such data, or choose a head for boxes alone"
        )


def _require_labels(train: Annotations) -> None:
    if train.image_labels is None:
        raise UserError(
            f"{train.report.source}: has no labels of whole images; expected {', '.join(LABELS.values())}: "
            "check data.root and data.format, or give a table of labels with data.image_labels, or set "
            "data.count_objects"
        )


def _require_masks(train: Annotations, wanted: Wanted) -> None:
    if train.mask_files is None and (train.segments is None or not len(train.boxes)):
        raise UserError(
            f"{train.report.source}: has no masks; expected {', '.join(MASKS.values())}: check data.root and "
            "data.format"
        )
    if wanted.masks == "one" and len(train.label_map) > MAX_CLASSES:
        raise UserError(
            f"{train.report.source}: {len(train.label_map)} classes; expected at most {MAX_CLASSES} in one mask"
        )


def _overlaps(train: Annotations, val: Annotations, config: DataConfig) -> list[str]:
    """Lines about images, or groups of images, that are on both sides."""
    advice = "the metric will flatter; choose with data.train, data.val"
    where = f"are in {train.split!r} and in {val.split!r}"
    if train.pixels is None or train.split == val.split:
        sides = ({(split.file(i), split.frame(i), i * (split.pixels is not None)) for i in range(len(split))}
                 for split in (train, val))  # fmt: skip
        shared = len(set.intersection(*sides))
        if shared:
            return [f"{shared} images {where}: {advice}"]
    if config.group_by is None and train.groups is None:
        return []
    try:
        groups = [set(group_of_each(split, config.group_by)) for split in (train, val)]
    except UserError:  # the expression was written for one of the two
        return []
    both = sorted(groups[0] & groups[1])
    return [f"{len(both)} groups ({', '.join(both[:3])}{', ...' * (len(both) > 3)}) {where}: {advice}"] if both else []


def _looked_for(config: DataConfig, wanted: Wanted) -> dict[type[Reader], str]:
    if wanted.boxes or config.count_objects is not None:
        return BOXES
    if wanted.masks is not None:
        return MASKS
    return LABELS if config.image_labels is None else {**BOXES, **MASKS}


def _open_reader(config: DataConfig, wanted: Wanted) -> Reader:
    labels = wanted.labels or "single"
    if config.format == "cells":
        cells = CellsFolder(config.root)
        only_labels = wanted.labels is not None and not wanted.boxes and wanted.masks is None
        return CsvTable(cells.root, config, labels) if only_labels and config.count_objects is None else cells
    root = config.root
    if root is None:
        raise UserError("data.root is not set; give the folder of the data, or data.format=cells for a sample")
    looked_for = _looked_for(config, wanted)
    expected = ", or ".join(looked_for.values())
    if not root.exists():
        raise UserError(f"data.root {root} does not exist; expected a folder with {expected}")
    if config.format != "auto":
        reader = readers.build(config.format, root, config, labels)
        if root.is_file() and type(reader) in {*BOXES, *MASKS, *LABELS}.difference(FILES):
            raise UserError(f"data.root {root} is not a folder; expected one for data.format {config.format!r}")
    else:
        candidates = looked_for if root.is_dir() else FILES
        found = next((kind for kind in candidates if kind in looked_for and kind.recognises(root)), None)
        if found is None and root.is_file():
            raise UserError(f"data.root {root} is not a folder; expected one with {expected}")
        if found is None:
            raise UserError(
                f"data.root {root}: no annotations found; expected {expected}; set data.format for another kind"
            )
        reader = found(root, config, labels)
    if not reader.splits():
        raise UserError(
            f"data.root {root}: no split found by the reader {config.format!r}; check data.format and data.root"
        )
    return reader
