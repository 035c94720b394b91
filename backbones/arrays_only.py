"""Pickled files of arrays, read without running anything that they ask for.

A pickle is a program: it names functions and has them called. The few names that pickled numpy arrays need are answered
here by stand-ins that only collect and check; every other name is refused. CIFAR's batches and Detectron2's weights are
such files. `backbones.tensors_only` adds the names that torch's files need.
"""

import pickle
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backbones.errors import UserError

PLAIN = (str, bytes, bool, int, float, type(None))
DTYPE = re.compile(r"[<>|=]?(?:\?|[biufcSU]\d{1,9})")


def load_arrays(path: Path) -> Any:
    """What a pickle holds, made of numpy arrays, dict, list, tuple, str, bytes, numbers and None alone.

    Texts of Python 2 are decoded as Latin-1.

    Raises:
        UserError: the file cannot be read, is no whole pickle, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            return _finish(ArrayUnpickler(file, encoding="latin1").load(), {})
    except Refused as refused:
        raise UserError(
            f"{path}: holds {refused}; expected only arrays, dicts, lists, texts and numbers: anything else in a "
            "pickle could run code"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a pickle of arrays") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes make it stumble over
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{path}: not a pickle of arrays ({reason}); expected one, this file may be cut off or damaged"
        ) from None


class Refused(Exception):
    """Something that does not belong into a file of arrays."""


class _Dtype:
    """Stands for `numpy.dtype`, of plain numbers and texts."""

    def __init__(self, text: str, align: object = False, copy: object = False) -> None:
        if not isinstance(text, str) or not DTYPE.fullmatch(text):
            raise Refused(f"an array of the type {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *parts = state[1:5]
        if any(part is not None for part in parts) or order not in ("<", ">", "|", "="):
            raise Refused("an array of a type with fields")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array, which numpy pickles as an empty one and then fills."""

    def __init__(self) -> None:
        self.array: np.ndarray[Any, Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise Refused("an array without a type or shape")
    content = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(content, bytes | bytearray):
        raise Refused("an array of Python objects")
    if any(type(side) is not int or side < 0 for side in shape) or len(content) != prod(shape) * dtype.dtype.itemsize:
        raise Refused(f"an array of the shape {shape} in {len(content)} bytes")
    flat = np.frombuffer(content, dtype.dtype) if content else np.zeros(0, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C").copy(order="K")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    built = _Array()
    built.array = _array(data, dtype, shape, order)
    return built


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise Refused(f"bytes encoded as {encoding!r}")
    return text.encode(encoding)


def _no_bytes(*arguments: object) -> bytes:
    if arguments:
        raise Refused("a call of bytes()")
    return b""


class _NdArray:
    """Stands for the class `numpy.ndarray`, which is named and never called."""

    def __init__(self, *_: object) -> None:
        raise Refused("a call of numpy.ndarray")


class Answer:
    """What a name in a pickle is answered with: it can be called, and nothing of it can be changed.

    Args:
        function: takes the arguments.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> None:
        raise Refused("a change of what it names")


class Table(dict[Any, Any]):
    """Stands for `collections.OrderedDict`, of which entries are kept and attributes are not."""

    __slots__ = ()

    def __setstate__(self, _: object) -> None:
        pass


# Written in Python: the one in C sets aside memory for as many objects as a file of ten bytes claims to have.
class ArrayUnpickler(pickle._Unpickler):
    """Answers the names of pickled numpy arrays and refuses all others."""

    STAND_INS: ClassVar[dict[str, Callable[..., Any]]] = {
        "numpy.dtype": _Dtype,
        "numpy.ndarray": _NdArray,
        "numpy.core.multiarray._reconstruct": _reconstruct,
        "numpy._core.multiarray._reconstruct": _reconstruct,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
        "numpy.core.numeric._frombuffer": _from_buffer,
        "numpy._core.numeric._frombuffer": _from_buffer,
        "_codecs.encode": _encode,
        "__builtin__.bytes": _no_bytes,
        "builtins.bytes": _no_bytes,
        "collections.OrderedDict": Table,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return Answer(self.STAND_INS[f"{module}.{name}"])
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def get_extension(self, code: int) -> Any:
        raise Refused(f"the registered extension {code}")

    def persistent_load(self, _: object) -> Any:
        raise Refused("a reference to something outside the file")


def _finish(value: Any, done: dict[int, Any]) -> Any:
    """`value` with arrays in place of their stand-ins; what is shared stays shared."""
    if type(value) in PLAIN or isinstance(value, np.generic):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        done[id(value)] = value.array
    elif type(value) is list:
        built: list[Any] = []
        done[id(value)] = built
        built += [_finish(entry, done) for entry in value]
    elif type(value) in (dict, Table):
        table: dict[Any, Any] = {}
        done[id(value)] = table
        table |= {_finish(key, done): _finish(entry, done) for key, entry in value.items()}
    elif type(value) is tuple:
        done[id(value)] = tuple(_finish(entry, done) for entry in value)
    elif isinstance(value, Answer):
        raise Refused("a function or class")
    else:
        raise Refused(f"something of the type {type(value).__name__}")
    return done[id(value)]
