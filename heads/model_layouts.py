"""A whole model of another library's as its parts: what all that read one return."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from backbones.layouts import Origin


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Weights by the names of a backbone and of a head of ours.

    Attributes:
        backbone: entries of the backbone; those that it has no name for keep the file's.
        head: entries of the head.
        origin: how the weights were trained.
        options: options of the head under which it computes what the model of the other library does.
    """

    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    origin: Origin
    options: Mapping[str, bool | int] = field(default_factory=dict)


def some(names: list[str]) -> str:
    """The first of some names and how many more there are, as the subject of a sentence."""
    shown = ", ".join(names[:3])
    return (
        f"{shown} and {len(names) - 3} more are" if len(names) > 3 else f"{shown} {'are' if len(names) > 1 else 'is'}"
    )
