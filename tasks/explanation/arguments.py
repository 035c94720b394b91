"""What can be asked on the command line; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Method = Literal["gradcam", "gradcam++", "layercam", "hirescam", "scorecam", "integrated_gradients"]


@dataclass
class ExplainArguments:
    """Draw heat maps over images of where a trained model sees the classes, boxes or masks that it predicts."""

    run: tyro.conf.Positional[Path]
    """A run folder (its best checkpoint) or a checkpoint."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, folders of images, or glob patterns."""
    method: Method | None = None
    """scorecam needs a pass for every channel, the others one or few. By default gradcam for labels, else layercam:
    averaged gradients, as of gradcam and gradcam++, show all objects of a class and not only the one asked for."""
    levels: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--level"])] = ()
    """Feature maps to look at, such as c5; several are fused by layercam. By default the deepest that counts; of
    layercam for boxes and masks, all from stride 8 on."""
    head: str | None = None
    """Name of the head to explain; by default all."""
    classes: tuple[str, ...] = ()
    """Names of classes to explain, predicted or not; by default those that are predicted."""
    top: int = 3
    """At most so many boxes, or classes, of an image: those that score highest, or cover most."""
    threshold: float = 0.5
    """Boxes that score less are neither drawn nor explained."""
    region: tuple[int, int, int, int] | None = None
    """Of masks: explain the pixels of this rectangle, left top right bottom, and not the predicted area."""
    out: Path = Path("explanations")
    """Folder to write to."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where to run."""
