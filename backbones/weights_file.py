"""Reads files of weights: safetensors, what torch saves, Detectron2's `.pkl`. Nothing in them is ever run."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.arrays_only import load_arrays
from backbones.errors import UserError
from backbones.tensors_only import load_tensors

# torch's files go by many endings: .th are akamaster's, .tar those of torch's ImageNet example, .ckpt Lightning's.
SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".tar", ".ckpt", ".bin", ".pkl")
# Training scripts tend to save the state dict beside epoch, optimizer and so on. Caffe2's are called blobs.
NESTED = ("state_dict", "model_state_dict", "model", "blobs")
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before all names


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        tensors: by name, on the CPU, in the types they are stored in.
        config: the text of the configuration that OpenMMLab's checkpoints carry; empty without one.
        author: who Detectron2's files say they are from; empty in others.
    """

    tensors: dict[str, Tensor]
    config: str = ""
    author: str = ""


def read_weights(path: Path) -> WeightsFile:
    """The tensors of a file by name, and what it says of itself.

    Raises:
        UserError: the file is missing, damaged, of another kind, or needs unpickling of more than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights")
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: weights are read from {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files; this is {path.suffix!r}"
        )
    content = _content(path)
    table = content if isinstance(content, Mapping) else {}
    author = table.get("__author__", "")
    meta = table.get("meta")
    texts = [meta.get(key) for key in ("cfg", "config")] if isinstance(meta, Mapping) else []
    for key in NESTED:
        if isinstance(table.get(key), Mapping):
            table = table[key]
    tensors = {str(name): value for name, value in table.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors by name; save a state_dict() and give that")
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
            raise UserError(
                f"{path}: {name} is a sparse, quantized or complex tensor; expected plain numbers: convert it with "
                "to_dense() or dequantize() before saving"
            )
    while wrapper := next((prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in tensors)), ""):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return WeightsFile(tensors, next((text for text in texts if isinstance(text, str)), ""), str(author))


def _content(path: Path) -> Any:
    if path.suffix == ".pkl":
        return _as_tensors(load_arrays(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():  # of torch about kinds of tensors that are refused by name
            warnings.simplefilter("ignore")
            # weights_only: unpickling anything else could run whatever code its author put there.
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
            return load_tensors(path)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: cannot be read as weights ({reason}); fetch or copy the file again") from error


def _as_tensors(value: Any) -> Any:
    """Arrays of numbers as tensors, in dicts of any depth."""
    if isinstance(value, dict):
        return {key: _as_tensors(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
    return value
