"""Faults that people make, to be planted into generated data and configs: each with the finding that has to name it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.config import Experiment

Spoil = Callable[[Experiment, Path], object]


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault.

    Attributes:
        kind: of the experiment: boxes, masks or labels.
        code: of the finding that names it.
        spoil: plants it, given the experiment and the folder of its data.
    """

    kind: str
    code: str
    spoil: Spoil


class Faults(dict[str, Planted]):
    """Faults by what they are called."""

    def planted(self, name: str, kind: str, code: str) -> Callable[[Spoil], Spoil]:
        """Add the decorated function as the fault `name`."""

        def add(spoil: Spoil) -> Spoil:
            self[name] = Planted(kind, code, spoil)
            return spoil

        return add
