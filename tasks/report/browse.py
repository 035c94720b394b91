"""What a model is given to learn from, as a contact sheet: each image over several epochs, with its targets."""

import numpy as np

from backbones.errors import UserError
from tasks.classification.truth import layout
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.dataset import Dataset
from tasks.data.loader import mosaic_until
from tasks.data.sample import SampleKey
from tasks.drawing import class_colour
from tasks.kinds import head_labels, task_of
from tasks.output import write_whole
from tasks.progress import Reporter
from tasks.report.arguments import BrowseArguments
from tasks.report.blocks import Example, Examples, Page, Section, Table
from tasks.report.illustrate import embedded
from tasks.report.render import render
from tasks.report.sample_drawing import draw_sample
from tasks.report.settings import leaves, shown
from tasks.seeding import derive_seed
from tasks.sources import Source, open_sources, source_labels

MOST_PICTURES = 600
SIZES = ((120, 360), (300, 260), (MOST_PICTURES, 200))  # up to so many pictures, pixels of their long side
MOST_FILTERS = 12  # classes
RESIZED = "Resized as for evaluation; nothing about them is random."
SEEN = (
    "As the network gets them, before the values are normalised; what is padded to fill a batch is not shown. The "
    "changes follow from the seed {seed}, the epoch and the image, so a training run sees these."
)


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
    sources, messages = open_sources(config)
    for message in messages:
        reporter.say(message)
    if not any(source.experiment.heads for source in sources):
        raise UserError("heads is empty; expected a head, whose targets are shown")
    known = dict.fromkeys(name for own in source_labels(sources).values() for name in own.names)
    for name in arguments.classes:
        if name not in known:
            raise UserError(f"classes has {name!r}; expected classes of the data: {', '.join(known)}")
    images = sum(len(source.train) for source in sources)
    training = arguments.split == "train"
    steps = images // max(config.data.batch_size, 1)
    until = mosaic_until(config.data.augment.close_mosaic, config.schedule, steps) if training else None
    longest = next(side for most, side in SIZES if arguments.images * len(sources) * epochs <= most)
    sections = [_section(arguments, source, epochs, until, longest, reporter) for source in sources]
    if training:
        table = Table("What is done to images", ["setting", "value"], _changes(config.data), prose=True, stacked=True)
        sections.append(Section("changes", "Settings", [table]))
    split = {source.name or "split": (source.train if training else source.val) for source in sources}
    facts = {name: f"{own.split}, {len(own):,} images" for name, own in split.items()}
    lead = "What the model is given to learn from." if training else "What the model is scored on."
    page = render(Page(f"{config.name}: data", lead, facts, sections))
    write_whole(arguments.out, lambda file: file.write_text(page, encoding="utf-8"))
    reporter.say(f"written to {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")


def _section(
    arguments: BrowseArguments, source: Source, epochs: int, until: int | None, longest: int, reporter: Reporter
) -> Section:
    """The images of one data set."""
    config, training = source.experiment, arguments.split == "train"
    split = source.train if training else source.val
    labels = head_labels(config, split)
    heads = {name: config.heads[name] for name in labels}
    names = tuple(dict.fromkeys(name for own in labels.values() for name in own.names))[:MOST_FILTERS]
    of_images = all(task_of(head).reads == "labels" for head in heads.values())
    # As the training loader does.
    seed = derive_seed(config.runner.seed, "source", source.name) if source.name else config.runner.seed
    dataset = Dataset(
        split,
        config.data,
        config.image,
        seed=seed,
        training=training,
        wanted=source.wanted,
        mosaic_until=until,
    )
    rows, examples = _chosen(split, arguments, of_images), []
    for row in reporter.track(rows, len(rows), f"browse, images of {split.split!r}"):
        pictures = []
        for epoch in range(epochs):
            picture, said = draw_sample(dataset[SampleKey(row, epoch)], heads, labels, config.image)
            caption = f"epoch {epoch + 1}: {said}" if training else said
            pictures.append(embedded(picture.pixels, f"{split.title(row)}, {caption}", caption, longest))
        marks = [name for name in _classes(split, row, of_images) if name in names]
        examples.append(Example(split.title(row), pictures, "", marks))
    used = [name for name in names if any(name in example.marks for example in examples)]
    first = next(iter(labels.values()))
    keys = {} if of_images else {name: class_colour(label) for label, name in enumerate(first.names[:MOST_FILTERS])}
    title, filters = f"{len(examples)} of {len(split):,} images", used if len(used) > 1 else ()
    note = (
        SEEN.format(seed=config.runner.seed) if training else "Resized as for evaluation; nothing about them is random."
    )
    block = Examples(title, examples, note, filters, keys, compact=not training)
    return Section(f"images-{source.name}", source.name or "Images", [block])


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
