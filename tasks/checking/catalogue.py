"""All checks, in the order in which they are made, and all kinds of findings."""

from collections.abc import Callable, Iterator
from types import ModuleType

from tasks.checking import (
    alignment,
    anchors,
    boxes,
    classes,
    consistency,
    exportable,
    frozen,
    initial_loss,
    leakage,
    learning,
    memory,
    network,
    odd_batches,
    opening,
    perfect,
    readability,
    round_trip,
    start,
    values,
)
from tasks.checking.finding import Finding, Kind
from tasks.checking.network import Network
from tasks.checking.subject import Subject

DATA: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "images that can be read": readability.images,
    "masks": readability.masks,
    "orientation": readability.orientation,
    "annotations that were read": boxes.reading,
    "images on both sides": leakage.leaked,
    "groups on both sides": leakage.groups,
    "repeated images": leakage.repeated,
    "balance of classes": classes.balance,
    "background": classes.background,
    "empty images": classes.emptiness,
    "bit depth": values.depth,
    "range of values": values.value_range,
    "normalisation": values.normalisation,
    "order of channels": values.channel_order,
    "values of the splits": values.splits,
    "resolution of boxes": boxes.resolution,
    "repeated boxes": boxes.repeated,
    "number of objects": boxes.many,
    "crops": boxes.crops,
    "places of annotations": alignment.misplaced,
    "names of classes": consistency.names,
    "the metric": perfect.metric,
}
TRAINING: dict[str, Callable[[Network], Iterator[Finding]]] = {
    "weights": network.weights,
    "anchors": anchors.unmatched,
    "frozen parameters": frozen.frozen,
    "frozen backbone": frozen.never,
    "batch norms": odd_batches.batch_norms,
    "losses": start.losses,
    "losses at the start": initial_loss.at_start,
    "odd batches": odd_batches.odd_batches,
    "warm-up": learning.warmup,
    "learning rate": learning.rate,
    "gradients": start.gradients,
    "checkpoint": round_trip.checkpoint,
    "memory": memory.memory,
    "export": exportable.export,
}
SECONDS = {"export": 15.0}
"""What must be left for a check that cannot be cut short; others need no more than any time at all."""
TITLES: dict[ModuleType, str] = {
    opening: "Opening",
    readability: "Files",
    leakage: "Leakage",
    classes: "Classes",
    boxes: "Boxes",
    alignment: "Places",
    consistency: "Names",
    values: "Values",
    network: "Network",
    anchors: "Anchors",
    perfect: "Metric",
    frozen: "What trains",
    start: "Losses and gradients",
    initial_loss: "Losses at the start",
    odd_batches: "Odd batches",
    learning: "Learning rate",
    round_trip: "Checkpoint",
    exportable: "Export",
    memory: "Memory",
}


def kinds_of(module: ModuleType) -> list[Kind]:
    """The kinds of findings of a file of checks."""
    return [value for value in vars(module).values() if isinstance(value, Kind)]
