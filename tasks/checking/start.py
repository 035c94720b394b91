"""The first pass of training: the losses that the network begins with, and where their gradients reach."""

import copy
from collections.abc import Iterator

from tasks.checking.finding import Finding, Kind, some
from tasks.checking.first_pass import first_pass
from tasks.checking.network import Network

STEP_FAILS = Kind(
    "step-fails",
    "error",
    "The loss of a batch of training images cannot be computed, or is not finite.",
    "Training would stop at its first step.",
)
NO_GRADIENT = Kind(
    "no-gradient",
    "error",
    "A trainable parameter gets no gradient from any loss.",
    "It stays what it is at random: it is not used, or cut off from the losses.",
)
GRADIENT_ZERO = Kind(
    "gradient-zero",
    "warning",
    "The gradient of a trainable parameter is exactly zero at the start and after the steps that were tried.",
    "The parameter does not learn from these images.",
)
LOSS_ZERO = Kind(
    "loss-zero",
    "warning",
    "A loss is exactly zero on annotated images, at the start.",
    "Its weight is zero, or it never sees its targets: nothing is learnt from it.",
)


def losses(network: Network) -> Iterator[Finding]:
    """Whether there are losses at all, and none of them is idle."""
    if network.batch is None:
        return
    start = network.start
    if start.problem:
        yield Finding(
            STEP_FAILS,
            f"{start.problem}; on {', '.join(network.batch.files)}",
            "a finite number for each loss",
            "look at these images and their annotations, at image.* and at the weights",
        )
    for name, value in start.losses.items():
        if value == 0:
            yield Finding(
                LOSS_ZERO,
                f"{name} is 0 on {len(network.batch)} annotated images",
                "a loss above 0 at the start",
                "give it a weight above 0 in the config of the head, if it is to teach anything",
            )


def gradients(network: Network) -> Iterator[Finding]:
    """Parameters that the losses do not reach."""
    if network.batch is None or network.start.problem:
        return
    unread = [head.factory_options().get("level") for head in network.config.heads.values()]
    if network.start.unreached and not any(level is not None for level in unread):
        yield Finding(
            NO_GRADIENT,
            f"{len(network.start.unreached)} parameters, such as {some(_modules(network.start.unreached))}",
            "a gradient for each trainable parameter",
            "use them in forward, do not detach what they give, or set requires_grad to False",
        )
    if not network.start.zero or network.tried is None:
        return
    later = first_pass(network.accelerator, copy.deepcopy(network.tried), network.batch)
    idle = [] if later.problem else sorted(network.start.zero & later.zero)
    if idle:
        yield Finding(
            GRADIENT_ZERO,
            f"{len(idle)} parameters, such as {some(_modules(idle))}",
            "a gradient other than zero",
            "is the weight of their loss zero, or what they compute multiplied by zero?",
        )


def _modules(parameters: tuple[str, ...] | list[str]) -> list[str]:
    """Modules that parameters belong to, each once."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in parameters))
