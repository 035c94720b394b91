"""What a model is given to learn from, as a contact sheet: each image over several epochs, with its targets."""

from collections.abc import Sequence

import numpy as np

from backbones.errors import UserError
from tasks.classification.truth import layout
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.augmentation.combinations import require_fitting
from tasks.data.dataset import Dataset
from tasks.data.loader import mosaic_until
from tasks.data.sample import SampleKey
from tasks.data.splits import open_splits
from tasks.drawing import class_colour
from tasks.head_choice import learning_heads
from tasks.kinds import head_labels, require_targets, task_of, wanted_targets
from tasks.label_map import LabelMap
from tasks.output import write_whole
from tasks.progress import Reporter
from tasks.report.arguments import BrowseArguments
from tasks.report.blocks import Block, Example, Examples, Page, Section, Table
from tasks.report.illustrate import embedded
from tasks.report.render import render
from tasks.report.sample_drawing import draw_sample
from tasks.report.settings import leaves, shown

MOST_PICTURES = 600
SIZES = ((120, 360), (300, 260), (MOST_PICTURES, 200))  # up to so many pictures, pixels of their long side
MOST_FILTERS = 12  # classes


def browse(arguments: BrowseArguments) -> None:
    """What `tools/browse.py` does.

    Raises:
        UserError: the data cannot be used, a class is not among theirs, there would be too many pictures, or the page
            cannot be written.
    """
    config, reporter = arguments.experiment, Reporter()
    epochs = arguments.epochs if arguments.split == "train" else 1
    if arguments.images < 1 or epochs < 1:
        raise UserError(f"images is {arguments.images} and epochs {epochs}; expected 1 or more of both")
    if arguments.images * epochs > MOST_PICTURES:
        raise UserError(
            f"{arguments.images} images of {epochs} epochs are {arguments.images * epochs} pictures; expected at most "
            f"{MOST_PICTURES} on a page: give fewer --images or --epochs"
        )
    wanted = wanted_targets(config)
    require_fitting(config.data, wanted)
    train, val, messages = open_splits(config.data, config.runner.seed, wanted)
    for message in messages:
        reporter.say(message)
    require_targets(config, train)
    split = train if arguments.split == "train" else val
    labels = head_labels(config, split)
    heads = {name: config.heads[name] for name in learning_heads(config)}
    if not heads:
        raise UserError("heads is empty; expected a head, whose targets are shown")
    # The heads whose classes are named may read labels of images, or objects in them.
    names = tuple(dict.fromkeys(name for own in labels.values() for name in own.names))
    for name in arguments.classes:
        if name not in names:
            raise UserError(f"classes has {name!r}; expected classes of the data: {', '.join(names)}")
    of_images = all(task_of(head).reads == "labels" for head in heads.values())
    rows = _chosen(split, arguments, of_images)
    steps = len(train) // max(config.data.batch_size, 1)
    training = arguments.split == "train"
    until = mosaic_until(config.data.augment.close_mosaic, config.schedule, steps) if training else None
    dataset = Dataset(
        split,
        config.data,
        config.image,
        seed=config.runner.seed,
        training=training,
        wanted=wanted,
        mosaic_until=until,
    )
    longest = next(side for most, side in SIZES if len(rows) * epochs <= most)
    examples = []
    for row in reporter.track(rows, len(rows), "browse, images"):
        pictures = []
        for epoch in range(epochs):
            picture, said = draw_sample(dataset[SampleKey(row, epoch)], heads, labels, config.image)
            caption = f"epoch {epoch + 1}: {said}" if training else said
            pictures.append(embedded(picture.pixels, f"{split.title(row)}, {caption}", caption, longest))
        marks = [name for name in _classes(split, row, of_images) if name in names[:MOST_FILTERS]]
        examples.append(Example(split.title(row), pictures, "", marks))
    page = _page(arguments, split, examples, names, of_images, labels)
    write_whole(arguments.out, lambda file: file.write_text(page, encoding="utf-8"))
    reporter.say(
        f"{len(rows)} images of {split.split!r}: {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)"
    )


def _page(
    arguments: BrowseArguments,
    split: Annotations,
    examples: Sequence[Example],
    names: Sequence[str],
    of_images: bool,
    labels: dict[str, LabelMap],
) -> str:
    config = arguments.experiment
    used = [name for name in names[:MOST_FILTERS] if any(name in example.marks for example in examples)]
    first = next(iter(labels.values()))
    keys = {} if of_images else {name: class_colour(label) for label, name in enumerate(first.names[:MOST_FILTERS])}
    note = (
        "As the network gets them, before the values are normalised; what is padded to fill a batch is not shown. The "
        f"changes follow from the seed {config.runner.seed}, the epoch and the image, so a training run sees these."
        if arguments.split == "train"
        else "Resized as for evaluation; nothing about them is random."
    )
    blocks: list[Block] = [
        Examples(
            f"{len(examples)} of {len(split):,} images", examples, note, used if len(used) > 1 else (), keys,
            compact=arguments.split == "val",
        )
    ]  # fmt: skip
    sections = [Section("images", "Images", blocks)]
    changes = _changes(config.data)
    if changes and arguments.split == "train":
        table = Table("What is done to images", ["setting", "value"], changes, prose=True)
        sections.append(Section("changes", "Settings", [table]))
    facts = {"split": split.split, "images": f"{len(split):,}", "classes": f"{len(names):,}"}
    lead = "What the model is given to learn from." if arguments.split == "train" else "What the model is scored on."
    return render(Page(f"{config.name}: data", lead, facts, sections))


def _changes(data: DataConfig) -> list[list[str]]:
    """Settings of size and augmentation that are not defaults."""
    default = leaves(DataConfig().model_dump(mode="json"))
    own = leaves(data.model_dump(mode="json"))
    sizes = ("size", "short_side", "long_side", "center_crop", "antialias")
    return [
        [f"data.{name}", shown(value)]
        for name, value in own.items()
        if name in sizes or (name.startswith("augment.") and value != default.get(name))
    ]


def _chosen(split: Annotations, arguments: BrowseArguments, of_images: bool) -> list[int]:
    """Rows spread evenly over the split, or over those of its images that have one of the classes asked for."""
    rows = list(range(len(split)))
    if arguments.classes:
        rows = [row for row in rows if set(_classes(split, row, of_images)) & set(arguments.classes)]
        if not rows:
            raise UserError(f"no image of {split.split!r} has {', '.join(arguments.classes)}; expected one")
    places = np.linspace(0, len(rows) - 1, min(arguments.images, len(rows))).round().astype(int)
    return [rows[place] for place in places.tolist()]


def _classes(split: Annotations, row: int, of_images: bool) -> list[str]:
    """Names of the classes of an image: its labels where heads read these alone, else those of its objects.

    Of masks that are drawn in files it is not known without reading them.
    """
    if not of_images:
        return [split.label_map.names[label] for label in np.unique(split.objects(row).labels).tolist()]
    if split.image_labels is None:
        return []
    own, names = split.image_labels[row].numpy(), split.label_classes.names
    match layout(split):
        case "multi":
            return [names[label] for label in np.flatnonzero(own).tolist()]
        case "single":
            return [names[int(own)]] if own >= 0 else []
    return []
