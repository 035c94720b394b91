"""What reads and prepares a folder of images for training, by name: each call loads all of them once."""

from collections.abc import Callable
from pathlib import Path

from tasks.config import DataConfig
from tasks.data.loader import TrainingLoader
from tasks.data.splits import open_splits
from tasks.image_spec import ImageSpec

SIDE, BATCH = 512, 8


def loading_contestants(folder: Path, workers: int) -> dict[str, Callable[[], int]]:
    """Loaders of a COCO or Pascal VOC folder, ours first; each returns how many images it has loaded.

    Args:
        folder: of the data.
        workers: processes that load.

    Raises:
        UserError: there is no data.
    """
    config = DataConfig(root=folder, batch_size=BATCH, size=(SIDE, SIDE), workers=workers)
    train, _, _ = open_splits(config, seed=0)
    loader = TrainingLoader(train, config, ImageSpec(), seed=0, divisor=32)
    return {"polyhead": lambda: sum(len(batch) for passes in loader.steps(0) for batch in passes)}
