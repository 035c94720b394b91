"""The sizes that batches will have, so that a network that does not take them is refused before the first step."""

from collections.abc import Iterator

from backbones import Backbone, UserError
from tasks.config import Experiment

Size = tuple[int, int]


def require_batch_sizes(backbone: Backbone, config: Experiment) -> None:
    """Raise `UserError` where training or evaluation would give `backbone` images of a size that it does not take."""
    for setting, size in (*_training_sizes(config), *_evaluation_sizes(config)):
        height, width = (-(-side // backbone.divisor) * backbone.divisor for side in size)
        try:
            backbone.require_size(height, width)
        except UserError as error:
            raise UserError(f"{setting}: {error}") from error


def _training_sizes(config: Experiment) -> Iterator[tuple[str, Size]]:
    """Where sizes vary, the extremes; with the setting that decides them."""
    data, augment = config.data, config.data.augment
    cut = (data.center_crop or data.size) if augment.random_resized_crop else augment.crop
    if cut is not None:
        setting = "data.augment." + ("random_resized_crop" if augment.random_resized_crop else "crop")
        sizes = [(setting, cut)]
    else:
        sizes = _resized(config, data.short_side)
        if augment.scale_jitter is not None:
            factors = augment.scale_jitter
            sizes = [("data.augment.scale_jitter", _scaled(size, factor)) for _, size in sizes for factor in factors]
    yield from sizes
    if augment.quarter_turns:
        yield from (("data.augment.quarter_turns", (width, height)) for _, (height, width) in sizes)


def _evaluation_sizes(config: Experiment) -> Iterator[tuple[str, Size]]:
    limits = {"data.center_crop": config.data.center_crop, "inference.window": config.inference.window}
    for setting, size in _resized(config, config.data.short_side[-1:]):
        for factor in config.inference.scales:
            found = (setting, size) if factor == 1 else ("inference.scales", _scaled(size, factor))
            for limit_setting, limit in limits.items():
                if limit is not None and (limit[0] < found[1][0] or limit[1] < found[1][1]):
                    found = limit_setting, (min(limit[0], found[1][0]), min(limit[1], found[1][1]))
            yield found


def _resized(config: Experiment, short_sides: tuple[int, ...]) -> list[tuple[str, Size]]:
    """A square image, and the widest and the tallest one, after resizing."""
    if config.data.size is not None:
        return [("data.size", config.data.size)]
    long = config.data.long_side
    pairs = [(min(short, long), other) for short in short_sides for other in (min(short, long), long)]
    return [("data.short_side and data.long_side", size) for pair in pairs for size in (pair, pair[::-1])]


def _scaled(size: Size, factor: float) -> Size:
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
