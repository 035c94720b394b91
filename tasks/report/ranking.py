"""An image that a report shows, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image by its name in the results, with what is wrong with its prediction."""

    image: str
    note: str
