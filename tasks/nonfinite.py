"""Finds the first value of a step that is not finite, and the module that made it.

Forward hooks look at what modules return; the first to return something that is not finite made it, since modules
within it have returned before it. They also note by which module each node of autograd's graph was made, so that in
the backward pass the first node that turns finite gradients into others has a name, too. Nothing of the step changes,
and only steps that are run again pay for it: every look waits for the device.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle


class NonFiniteSearch:
    """Within it, one forward and backward pass of a model is watched; several passes one after another, too.

    Args:
        model: whose modules are named; called as a whole, it returns named losses.

    Attributes:
        found: where the first value that is not finite came up: "the output of heads.boxes.rpn.conv"; empty while
            all are finite.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.found = ""
        self._handles: list[RemovableHandle] = []
        self._made_by: dict[Node, str] = {}

    def __enter__(self) -> Self:
        for name, parameter in self.model.named_parameters():
            if not self.found and not torch.isfinite(parameter).all():
                self.found = f"the weight {name}, before the step"
        for name, module in self.model.named_modules():
            look = self._output(name) if name else self._losses
            self._handles.append(module.register_forward_hook(look))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._made_by.clear()

    def _output(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if not self.found and _broken(tensor):
                    self.found = f"the output of {name}"
                self._note(tensor, name)

        return look

    def _losses(self, module: nn.Module, inputs: Any, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            if not self.found and _broken(loss):
                self.found = f"the loss {name}, made of finite outputs"
            self._note(loss, f"the loss {name}")
        for node, name in self._made_by.items():
            self._handles.append(node.register_hook(self._gradient(name)))

    def _gradient(self, name: str) -> Callable[[Any, Any], None]:
        def look(onward: tuple[Tensor | None, ...], arriving: tuple[Tensor | None, ...]) -> None:
            if self.found or all(gradient is None or torch.isfinite(gradient).all() for gradient in onward):
                return
            # One that arrives so was made by a node without a name: by what sums and scales the losses.
            made = all(gradient is None or torch.isfinite(gradient).all() for gradient in arriving)
            self.found = f"the gradient in {name}" if made else f"the gradient that reaches {name}"

        return look

    def _note(self, tensor: Tensor, name: str) -> None:
        """All nodes behind a tensor that no module within has made are this module's own."""
        waiting = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in self._made_by:
                self._made_by[node] = name
                waiting += [before for before, _ in node.next_functions]


def _broken(tensor: Tensor) -> bool:
    """Infinities are left where nothing is learnt through them: they mark what is not to be taken."""
    if not tensor.is_floating_point():
        return False
    bad = torch.isnan(tensor) if not tensor.requires_grad else ~torch.isfinite(tensor)
    return bool(bad.any())


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in whatever a module returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
