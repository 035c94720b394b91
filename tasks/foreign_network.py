"""A part of a run as a network of another library's: what goes in, and what comes out."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from tasks.config import Experiment


@dataclass(frozen=True, slots=True)
class Recipe:
    """A call that builds a network.

    Attributes:
        function: "timm.create_model".
        options: keywords of it.
    """

    function: str
    options: dict[str, Any]

    def build(self) -> nn.Module:
        """The network, with random weights."""
        module, _, name = self.function.rpartition(".")
        return cast(nn.Module, getattr(importlib.import_module(module), name)(**self.options))

    def __str__(self) -> str:
        return f"{self.function}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


@dataclass(frozen=True, slots=True)
class Target:
    """A network of another library's that a run's weights fit.

    Attributes:
        tensors: the weights by its names.
        recipe: how it is built, where that library can be asked; else None.
        notes: what must be set there, for people.
    """

    tensors: dict[str, Tensor]
    recipe: Recipe | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be exported.

    Attributes:
        config: of the run.
        section: of the head.
        backbone: weights of the backbone, by our names.
        head: weights of the head.
        where: names the run in messages.
    """

    config: Experiment
    section: object
    backbone: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    where: str

    @property
    def network(self) -> str:
        """Name of the backbone."""
        return self.config.backbone.name

    def refuse(self, library: str, why: str) -> NoReturn:
        """Raise `UserError`."""
        raise UserError(f"{self.where}: {library} has no such network: {why}")


def backbone_with_counters(source: Source, library: str) -> dict[str, Tensor]:
    """The backbone's weights, and the counters of batches that frozen norms do without."""
    if source.config.backbone.norm == "gn":
        source.refuse(library, "its norms are batch norms, those of this network are of groups (--backbone.norm gn)")
    tensors = dict(source.backbone)
    for name in source.backbone:
        if name.endswith("running_var"):
            tensors.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return tensors
