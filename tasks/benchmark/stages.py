"""Where the time of a step goes: a clock for each stage, put around what is there already, so that no model says a word
of it."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from torch import nn

from tasks.benchmark.accelerator import synchronise
from tasks.data.sample import Batch
from tasks.runner import Runner

BACKWARD, REST = "backward", "rest"
# Modules of heads, by the name that a head gives them; others are called by that name.
MODULES = {
    "fpn": "neck",
    "rpn": "RPN head",
    "roi_head": "box head",
    "later_stages": "box head",
    "pool": "pooling",
    "linear": "logits",
}
# Methods of a head and of its modules.
METHODS = {
    "propose": "proposals",
    "sample": "matching, sampling",
    "label": "matching, sampling",
    "loss": "losses",
    "loss_sums": "losses",
    "predict": "predictions",
    "detect": "predictions",
    "decide": "predictions",
    "logits": "logits",
}
# Functions, wherever a module of ours has them in hand.
FUNCTIONS = {
    ("heads.matcher", "match"): "matching, sampling",
    ("heads.sampling", "priorities"): "matching, sampling",
    ("heads.sampling", "subsample"): "matching, sampling",
    ("heads.roi_align", "roi_align"): "RoIAlign",
    ("heads.sampled_convolution", "convolve_cells"): "RPN head",
    ("heads.sampled_convolution", "linear_at_cells"): "RPN head",
}
# As a step comes to them; stages that are not named here come before the losses.
ORDER = (
    *("data transfer", "normalise", "backbone", "neck", "RPN head", "proposals", "matching, sampling", "RoIAlign"),
    *("box head", "decoder", "pooling", "logits"),
)
LAST = ("losses", "predictions", BACKWARD, "checks of losses", "optimizer", REST)


def in_order(stages: Iterable[str]) -> list[str]:
    """Stages as a step comes to them."""
    place = {name: number for number, name in enumerate((*ORDER, None, *LAST))}
    return sorted(stages, key=lambda name: place.get(name, place[None]))


class StageClock:
    """Adds up the time spent in each stage. One stage inside of another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything within is of stage `name`; what the backward pass computes again stays with that."""
        if BACKWARD in self._stack:
            yield
            return
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last time."""
        taken, self.seconds = self.seconds, {}
        return taken

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, as stage `name`."""

        @wraps(call)
        def run(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return call(*arguments, **options)

        return run

    def _turn(self) -> None:
        """Time since the last turn belongs to the innermost stage."""
        synchronise()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._since
        self._since = now


@contextmanager
def clocked(runner: Runner) -> Iterator[StageClock]:
    """Clocks around the stages of a runner's steps and predictions; taken away at the end."""
    clock = StageClock()
    stepper, model = runner.stepper, runner.stepper.bare
    places: list[tuple[Any, str, str]] = [
        (Batch, "to", "data transfer"),
        (type(model), "network_input", "normalise"),  # of its parts, which predict, too
        (model.backbone, "forward", "backbone"),
        (stepper.accelerator, "backward", BACKWARD),
        (stepper.optimizer, "step", "optimizer"),
        (stepper.optimizer, "zero_grad", "optimizer"),
        (stepper.watch, "add", "checks of losses"),
        (stepper.watch, "check_step", "checks of losses"),
    ]
    for head in model.heads.values():
        places += _places(head)
    for (module, name), stage in FUNCTIONS.items():
        places += [(owner, attribute, stage) for owner, attribute in _holders(module, name)]
    patches = [patch.object(owner, name, clock.timed(stage, getattr(owner, name))) for owner, name, stage in places]
    for one in patches:
        one.start()
    try:
        yield clock
    finally:
        for one in reversed(patches):
            one.stop()


def _places(head: nn.Module) -> Iterator[tuple[Any, str, str]]:
    parts = list(_parts(head))
    for name, module in parts:
        yield module, "forward", MODULES.get(name, name.replace("_", " "))
    for owner in (head, *(module for _, module in parts)):
        for method, stage in METHODS.items():
            if callable(getattr(type(owner), method, None)):
                yield owner, method, stage


def _parts(head: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules of a head, those in a list one by one."""
    for name, module in head.named_children():
        for part in module if isinstance(module, nn.ModuleList) else (module,):
            yield name, part


def _holders(module: str, name: str) -> list[tuple[Any, str]]:
    """Modules of heads that refer to a function, and by which name."""
    function = getattr(sys.modules.get(module), name, None)
    ours = [held for key, held in list(sys.modules.items()) if key.split(".")[0] == "heads"]
    return [
        (held, attribute)
        for held in ours
        for attribute, value in vars(held).items()
        if function is not None and value is function
    ]
