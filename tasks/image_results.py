"""What one head gave on every image of a split, as much of it as its metrics rest on: for reports and comparisons.

runs/x/results/<head>.safetensors, of the best checkpoint: arrays, and beside them as json the head's classes, the
names of the images and the metrics that were logged.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from backbones.errors import UserError
from tasks.label_map import LabelMap

Arrays = dict[str, npt.NDArray[Any]]
Kind = Literal["boxes", "instances", "masks", "labels"]
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class ImageResults:
    """The results of one head.

    Attributes:
        head: its name in the config.
        kind: of target; says which arrays there are, see `Scorer.arrays`.
        split: name of the split.
        step: optimizer steps that the scored weights had taken.
        labels: classes.
        images: I names, relative to the root of the data, with the frame where a file holds several.
        metrics: as logged, without the head's name.
        lower: names of those that are better when lower, and -1 where nothing could be measured.
        main: the main one.
        options: what else their reading needs, such as the target of labels.
        arrays: by name.
    """

    head: str
    kind: Kind
    split: str
    step: int
    labels: LabelMap
    images: tuple[str, ...]
    metrics: dict[str, float]
    lower: frozenset[str]
    main: str
    options: dict[str, Any]
    arrays: Arrays

    def save(self, folder: Path) -> None:
        """Write `folder/<head>.safetensors`, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        described = {
            "format": FORMAT,
            "head": self.head,
            "kind": self.kind,
            "split": self.split,
            "step": self.step,
            "labels": self.labels.model_dump(mode="json"),
            "images": self.images,
            "metrics": self.metrics,
            "lower": sorted(self.lower),
            "main": self.main,
            "options": self.options,
        }
        final = folder / f"{self.head}.safetensors"
        writing = folder / f".writing_{final.name}.{os.getpid()}"
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        try:
            save_file(arrays, writing, metadata={"results": json.dumps(described)})
            writing.replace(final)
        finally:
            writing.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Path) -> "ImageResults":
        """Read what `save` wrote.

        Raises:
            UserError: it is damaged, or of another version.
        """
        try:
            with safe_open(file, framework="numpy") as opened:
                told = json.loads(opened.metadata()["results"])
                if told["format"] != FORMAT:
                    raise UserError(f"{file}: results of format {told['format']}; this version reads {FORMAT}")
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict
            return cls(
                head=told["head"],
                kind=told["kind"],
                split=told["split"],
                step=int(told["step"]),
                labels=LabelMap.model_validate(told["labels"]),
                images=tuple(told["images"]),
                metrics=told["metrics"],
                lower=frozenset(told["lower"]),
                main=told["main"],
                options=told["options"],
                arrays=arrays,
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: damaged or truncated ({error}); delete it, and tools/report.py evaluates again"
            ) from None
