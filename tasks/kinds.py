"""Which kind of target each head of an experiment learns from, and what that kind adds."""

from dataclasses import replace

from backbones.errors import UserError
from heads import heads
from heads.contract import Reads
from tasks.classification.task import ClassificationTask
from tasks.config import Experiment, HeadConfig
from tasks.data.annotations import Annotations
from tasks.data.wanted import Wanted
from tasks.detection.instance_task import InstanceTask
from tasks.detection.task import DetectionTask
from tasks.head_choice import learning_heads
from tasks.label_map import LabelMap
from tasks.plugins import import_plugins
from tasks.segmentation.task import SegmentationTask
from tasks.task import Task

TASKS: dict[Reads, type[Task]] = {
    "boxes": DetectionTask,
    "labels": ClassificationTask,
    "masks": SegmentationTask,
}


def task_of(head: HeadConfig) -> type[Task]:
    """What the kind of target that a head reads adds.

    Raises:
        UserError: nobody registered the head, or it does not say what it reads.
    """
    reads = getattr(heads.factory(head.name), "reads", None)
    if reads not in TASKS:
        raise UserError(
            f"head {head.name!r} reads {reads!r}; expected one of {', '.join(TASKS)} as its attribute `reads`"
        )
    return InstanceTask if reads_outlines(head) else TASKS[reads]


def reads_outlines(head: HeadConfig) -> bool:
    """Whether a head learns from the outlines of objects too."""
    return bool(getattr(heads.factory(head.name), "reads_outlines", False))


def wanted_targets(config: Experiment) -> Wanted:
    """The targets that the heads of an experiment that learn need.

    Raises:
        UserError: a plug-in cannot be imported, two heads would read the same annotations in different ways, or see
            `task_of`.
    """
    import_plugins(config.plugins)  # a head may be theirs
    wanted = Wanted(boxes=False)
    for name in learning_heads(config):
        head = config.heads[name]
        before, target = wanted, head.factory_options().get("target")
        match task_of(head).reads:
            case "boxes":
                wanted = replace(wanted, boxes=True, outlines=wanted.outlines or reads_outlines(head))
            case "labels":
                wanted = replace(wanted, labels=target or "single")
            case "masks":
                wanted = replace(wanted, masks="each" if target == "multilabel" else "one")
        if before.labels not in (None, wanted.labels) or before.masks not in (None, wanted.masks):
            raise UserError(
                f"heads.{name}.target is {target}, but a head before it reads the same annotations in another way; "
                "expected one target for both, or an experiment for each"
            )
    return wanted


def require_targets(config: Experiment, annotations: Annotations) -> None:
    """Raise `UserError` when a split holds nothing for one of the heads that learn."""
    for name in learning_heads(config):
        task_of(config.heads[name]).require(annotations)


def head_labels(config: Experiment, annotations: Annotations) -> dict[str, LabelMap]:
    """The classes of each head that learns, by its name."""
    return {
        name: annotations.label_classes if task_of(config.heads[name]).reads == "labels" else annotations.label_map
        for name in learning_heads(config)
    }
