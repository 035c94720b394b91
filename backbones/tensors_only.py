"""torch's pickled files (`.pth`, `.pt`), read without running anything that they ask for.

`torch.load(weights_only=True)` refuses a file with anything but tensors and plain containers in it, as the checkpoints
of OpenMMLab are: beside the weights they hold logs and settings in classes of their own. Here the names of a short list
of such classes are answered by one that is empty and does nothing; tensors are built by this file, from no more numbers
than the file has; every other name is refused. As in `backbones.arrays_only`, nothing that a file names is imported or
called.

The two formats are torch's: a zip archive of `data.pkl` and `data/<number>`, since 1.6, and before that five pickles in
a row with the numbers behind them.
"""

import struct
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from backbones.arrays_only import Answer, ArrayUnpickler, Refused
from backbones.errors import UserError

OLD_MAGIC, OLD_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
BUILTINS = ("set", "frozenset", "slice", "range", "complex", "bytearray", "list", "dict", "int", "float", "str")
# Logs, settings and dates: they say nothing about weights, and an empty object can stand for them.
INERT = {
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.config.config.ConfigDict",
    "mmengine.config.config.Config",
    "mmcv.utils.config.ConfigDict",
    "mmcv.utils.config.Config",
    "addict.addict.Dict",
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
    "datetime.datetime",
    "datetime.date",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "collections.defaultdict",
    "collections.deque",
    "collections.Counter",
    "torch.device",
    *(f"torch.{dtype}" for dtype in ("float16", "bfloat16", "float32", "float64", "uint8", "int32", "int64", "bool")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool", "Str")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in BUILTINS),
}


def load_tensors(path: Path) -> Any:
    """What a file written by `torch.save` holds: tensors on the CPU in plain containers, beside inert objects.

    Raises:
        UserError: it is damaged, of another format, or names anything that has no place beside weights.
    """
    try:
        with path.open("rb") as file:
            zipped = zipfile.is_zipfile(file)
            file.seek(0)
            return _load_zip(file, path) if zipped else _load_old(file, path)
    except Refused as refused:
        raise UserError(
            f"{path}: refused, for it holds more than tensors ({refused}) and reading that could run code hidden in "
            "it; save its state_dict() alone, best as .safetensors, and give that"
        ) from None
    except Exception as error:  # a damaged file can fail anywhere
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: cannot be read as weights ({reason}); fetch or copy the file again") from None


class _Inert:
    """Stands for objects that are made, filled and never looked at."""

    __slots__ = ()

    def __new__(cls, *_: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, *_: object) -> None:
        raise Refused("a call of a method")

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """Nothing is kept."""

    def extend(self, _: object) -> None:
        """Nothing is kept."""


class _InertClass(Answer):
    """Stands for the class of such objects, which a pickle may also make by `__new__`."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Any:
        # A pickle that makes an object passes what it named, which is no class here.
        return _Inert() if isinstance(cls, _InertClass) else super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(_Inert)


def _attribute(owner: object, name: object, *_: object) -> _Inert:
    if not isinstance(owner, _Inert | _InertClass) or not isinstance(name, str):
        raise Refused("a call of getattr")
    return _Inert()


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> Tensor:
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, Tensor) or any(type(number) is not int or number < 0 for number in numbers):
        raise Refused("a tensor without numbers, or of a negative shape")
    if len(shape) != len(stride) or (prod(shape) and prod(shape) > len(storage)):
        raise Refused(f"a tensor of the shape {tuple(shape)} made of {len(storage)} numbers")
    return storage.as_strided(shape, stride, offset)  # raises where it reaches beyond the storage


def _parameter(tensor: Any, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Refused("a parameter that is no tensor")
    return tensor


class _TensorUnpickler(ArrayUnpickler):
    """Answers the names of pickled tensors too.

    Args:
        file: the pickle.
        storage: gives the (N,) tensor of a type, key and number of elements.
    """

    STAND_INS: ClassVar[dict[str, Callable[..., Any]]] = {
        **ArrayUnpickler.STAND_INS,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch.Size": tuple,
        "__builtin__.getattr": _attribute,
        "builtins.getattr": _attribute,
    }

    def __init__(self, file: IO[bytes], storage: Callable[[torch.dtype, str, int], Tensor]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in INERT:
            return _InertClass()
        return STORAGES[full] if full in STORAGES else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Tensor:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise Refused("a reference to something outside the file")
        _, dtype, key, _, count, *view = pid
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise Refused("a reference to numbers of an unknown type")
        if view and view[0] is not None:
            raise Refused("a storage that is part of another, as torch 0.3 wrote them")
        return self._storage(dtype, key, count)


def _load_zip(file: IO[bytes], path: Path) -> Any:
    size = path.stat().st_size
    read: dict[str, Tensor] = {}
    with zipfile.ZipFile(file) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        # Stored as they are, all records together are no longer than the file, and nothing can swell.
        if any(info.compress_type != zipfile.ZIP_STORED for info in records.values()):
            raise Refused("a compressed record")
        if sum(info.file_size for info in archive.infolist()) > size:
            raise Refused(f"records of more than its {size} bytes")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise Refused("numbers of the other byte order")

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in read:
                read[key] = _numbers(archive.read(records[f"data/{key}"]), dtype, count)
            return read[key]

        with archive.open(records["data.pkl"]) as content:
            return _TensorUnpickler(content, storage).load()


def _load_old(file: IO[bytes], path: Path) -> Any:
    size = path.stat().st_size
    declared: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if key not in declared:
            if sum(len(tensor.view(torch.uint8)) for tensor in declared.values()) + count * dtype.itemsize > size:
                raise Refused(f"more numbers than its {size} bytes")
            declared[key] = torch.zeros(count, dtype=dtype)  # filled below: the numbers come behind the names
        return declared[key]

    def load() -> Any:
        return _TensorUnpickler(file, storage).load()

    magic, protocol, system = load(), load(), load()
    if magic != OLD_MAGIC or protocol != OLD_PROTOCOL:
        raise Refused("no mark of torch's at its beginning")
    if not isinstance(system, dict) or not system.get("little_endian"):
        raise Refused("numbers of the other byte order")
    content, keys = load(), load()
    for key in keys:
        target = declared[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != len(target):
            raise Refused(f"{count} numbers where it declared {len(target)}")
        target.copy_(_numbers(file.read(count * target.itemsize), target.dtype, count))
    return content


def _numbers(content: bytes, dtype: torch.dtype, count: int) -> Tensor:
    if len(content) != count * dtype.itemsize:
        raise Refused(f"{count} numbers of {dtype.itemsize} bytes in {len(content)} bytes")
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.zeros(0, dtype=dtype)
