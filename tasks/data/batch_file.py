"""A batch as a safetensors file: exactly what the network was given, to be looked at or run again.

Tensors lie in the file by their path in the batch ("targets.boxes.labels"); everything else is JSON in its metadata.
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backbones.errors import UserError
from tasks.data.sample import Batch

T = TypeVar("T")


def save_batch(batch: Batch, file: Path) -> None:
    """Write a batch, from whatever device it is on."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    _collect(batch, "", tensors, plain)
    stored = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(stored, file, metadata={"batch": json.dumps(plain)})


def load_batch(file: Path) -> Batch:
    """What `save_batch` wrote, on the CPU, images channels-last as a loader makes them.

    Raises:
        UserError: the file is damaged, or was written by another version.
    """
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            plain = json.loads((content.metadata() or {})["batch"])
        tensors["images"] = tensors["images"].contiguous(memory_format=torch.channels_last)
        return _rebuild(Batch, "", tensors, plain)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file}: not a batch of this version ({error}); expected one that a run saved") from None


def _collect(value: Any, path: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    if isinstance(value, Tensor):
        tensors[path] = value
    elif is_dataclass(value):
        for field in fields(value):
            _collect(getattr(value, field.name), f"{path}.{field.name}".lstrip("."), tensors, plain)
    elif value is not None:
        plain[path] = value


def _rebuild(kind: type[T], path: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> T:
    values: dict[str, Any] = {}
    for name, declared in get_type_hints(kind).items():
        at = f"{path}.{name}".lstrip(".")
        part = next((one for one in (declared, *get_args(declared)) if is_dataclass(one)), None)
        if at in tensors:
            values[name] = tensors[at]
        elif part is not None and any(key.startswith(f"{at}.") for key in (*tensors, *plain)):
            values[name] = _rebuild(part, at, tensors, plain)  # type: ignore[arg-type]
        elif at in plain:
            values[name] = tuple(plain[at]) if isinstance(plain[at], list) else plain[at]
        else:
            values[name] = None
    return kind(**values)
