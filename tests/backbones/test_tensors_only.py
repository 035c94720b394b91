"""Checkpoints as OpenMMLab's programs write them: their tensors are read, nothing in them is ever called."""

import argparse
import builtins
import collections
import datetime
import operator
import os
import pathlib
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from backbones.errors import UserError
from backbones.tensors_only import load_tensors
from backbones.weights_file import read_weights

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])


class HistoryBuffer:
    """As mmengine's, as far as pickling it goes: arrays, and methods that are pickled as attributes of the class."""

    def __init__(self) -> None:
        self._log_history, self.length = np.zeros(3), np.float64(3)
        self._statistics_methods = {"mean": HistoryBuffer.mean}

    def mean(self) -> float:
        return float(self._log_history.mean())


class ConfigDict(dict):  # type: ignore[type-arg]
    pass


@pytest.fixture
def mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes by the names that they have in mmengine, for the time of writing."""
    for cls, name in ((HistoryBuffer, "mmengine.logging.history_buffer"), (ConfigDict, "mmengine.config.config")):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        setattr(sys.modules[name], cls.__name__, cls)
        monkeypatch.setattr(cls, "__module__", name)
    monkeypatch.setattr(HistoryBuffer.mean, "__module__", HistoryBuffer.__module__)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).half(), nn.Linear(2, 2).bfloat16())


@FORMATS
def test_a_checkpoint_of_openmmlab(mmengine: None, net: nn.Module, tmp_path: Path, zipped: bool) -> None:
    state, shared = net.state_dict(), torch.arange(12)
    state["view"], state["turned"], state["empty"] = shared[3:9:2], shared.view(3, 4).T, torch.zeros(0, 5)
    content = {
        "meta": {
            "cfg": "style='caffe'",
            "time": datetime.datetime.now(tz=datetime.UTC),
            "arguments": argparse.Namespace(path=pathlib.Path("x")),
            "settings": ConfigDict(lr=ConfigDict(policy="step")),
            "seen": {1, 2},
            "counts": collections.defaultdict(list, {1: [2]}),
            "version": np.array([1, 2]),
            "type": torch.float32,
        },
        "message_hub": {"log_scalars": collections.OrderedDict(loss=HistoryBuffer())},
        "state_dict": state,
        "optimizer": {"state": {0: {"momentum": net[0].weight}}},
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        torch.load(tmp_path / "x.pth", weights_only=True)
    found = read_weights(tmp_path / "x.pth")
    assert found.config == "style='caffe'"
    assert found.tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor), name
    # What nobody needs is not kept, and what is kept is tensors in dicts.
    hub = load_tensors(tmp_path / "x.pth")["message_hub"]["log_scalars"]
    assert not hasattr(hub["loss"], "_log_history")


class Calling:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments

    def __call__(self) -> None:
        """Lets a call of what a call gives be pickled."""


def planted(kind: str, trace: Path) -> Any:
    """An object whose unpickling would write `trace`."""
    command = f"touch {trace}"
    return {
        "os.system": Calling(os.system, command),
        "eval": Calling(eval, f"open({str(trace)!r}, 'w').close()"),
        "exec": Calling(exec, f"open({str(trace)!r}, 'w').close()"),
        "attribute": Calling(Calling(getattr, os, "system"), command),
        "attribute of a call": Calling(getattr, Calling(__import__, "os"), "system"),
        "attribute of a class": Calling(getattr, Calling(type, "x"), "mro"),
        "method": Calling(operator.methodcaller("write_text", "x"), trace),
        "torch.load": Calling(torch.load, str(trace)),
        "method of a path": Calling(Path.touch, trace),
        "in an argument": Calling(collections.defaultdict, Calling(os.system, command)),
        "in a set": {Calling(os.system, command)},
        "in a parameter": Calling(torch._utils._rebuild_parameter, Calling(os.system, command), True, {}),
        "apply": Calling(map, builtins.eval, [f"open({str(trace)!r}, 'w').close()"]),
    }[kind]


KINDS = [
    *("os.system", "eval", "exec", "attribute", "attribute of a call", "attribute of a class", "method"),
    *("torch.load", "method of a path", "in an argument", "in a set", "in a parameter", "apply"),
]


@FORMATS
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_called(net: nn.Module, tmp_path: Path, kind: str, zipped: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "x.pth"
    content = {"state_dict": net.state_dict(), "meta": {"deep": [({"x": planted(kind, trace)},)]}}
    torch.save(content, path, pickle_module=_Lenient, _use_new_zipfile_serialization=zipped)
    for read in (load_tensors, read_weights):
        with pytest.raises(UserError, match="refused, for it holds more than tensors") as error:
            read(path)
        assert "\n" not in str(error.value)
    assert not trace.exists()


class _Lenient:
    """A pickle module that writes modules too, as somebody would who means harm."""

    class Pickler(pickle._Pickler):
        def save_module(self, module: types.ModuleType) -> None:
            self.save_reduce(__import__, (module.__name__,), obj=module)

        dispatch = {**pickle._Pickler.dispatch, types.ModuleType: save_module}  # noqa: RUF012

    dump = staticmethod(pickle.dump)


def test_the_traps_work_at_all(tmp_path: Path) -> None:
    for kind in ("os.system", "eval", "exec", "in an argument", "in a set"):
        trace = tmp_path / kind.replace(" ", "_")
        try:
            pickle.loads(pickle.dumps(planted(kind, trace)))
        except TypeError:
            assert kind == "in an argument"  # fails, but too late
        assert trace.exists(), kind


HEAD = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"


def tensor_of(shape: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """A pickled tensor on the storage "0" of four numbers."""
    return HEAD + offset + shape + stride + b"\x89}tR."


def forged(path: Path, content: bytes, numbers: bytes = bytes(16), compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/data/0", numbers)
        archive.writestr("x/version", b"3\n")
    return path


def test_the_forger_can_write_what_is_right(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32).tobytes()
    found = load_tensors(forged(tmp_path / "x.pth", tensor_of(b"(K\x02K\x02t", b"(K\x02K\x01t"), numbers))
    assert torch.equal(found, torch.arange(4.0).view(2, 2))


@pytest.mark.parametrize(
    ("content", "numbers", "says"),
    [
        (tensor_of(b"(K\x05t", b"(K\x01t"), bytes(16), r"shape \(5,\) made of 4 numbers"),
        (tensor_of(b"(K\x04t", b"(K\x02t"), bytes(16), "out of bounds"),
        (tensor_of(b"(K\x04t", b"(K\x01t", b"K\x01"), bytes(16), "out of bounds"),
        (tensor_of(b"(J\x00\x00\x00\x7ft", b"(K\x00t"), bytes(16), "made of 4 numbers"),
        (tensor_of(b"(J\xfe\xff\xff\xfft", b"(K\x01t"), bytes(16), "negative shape"),
        (tensor_of(b"(K\x02t", b"(K\x01K\x01t"), bytes(16), "made of 4 numbers"),
        (tensor_of(b"(K\x04t", b"(K\x01t"), bytes(12), "4 numbers of 4 bytes in 12 bytes"),
        (tensor_of(b"(K\x04t", b"(K\x01t").replace(b"U\x010", b"U\x017"), bytes(16), "KeyError"),
        (tensor_of(b"(K\x04t", b"(K\x01t").replace(b"K\x04tQ", b"J\xff\xff\xff\xfftQ"), bytes(16), "unknown type"),
        (b"\x80\x02(U\x06moduleU\x01aU\x01btQ.", bytes(16), "a reference to something outside"),
        # The 2**31-th object of a few bytes; a text of 2**40 bytes.
        (b"\x80\x02]r\xff\xff\xff\x7f.", bytes(16), ""),
        (b"\x80\x04\x8d\x00\x00\x00\x00\x00\x01\x00\x00.", bytes(16), "cannot be read"),
        # What a name stands for is changed; made anew; given attributes.
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__K\x01s\x86b.", bytes(16), "a change of what"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.", bytes(16), "cannot be read"),
        (b"\x80\x02cbuiltins\ngetattr\ncargparse\nNamespace\nK\x01\x86R.", bytes(16), "a call of getattr"),
        (b"\x80\x02\x82\x01.", bytes(16), "the registered extension 1"),
    ],
)
def test_what_a_file_declares_is_not_believed(tmp_path: Path, content: bytes, numbers: bytes, says: str) -> None:
    path = forged(tmp_path / "x.pth", content, numbers)
    if not says:  # harmless here, where the other kind of unpickler would take 16 GB for it
        assert load_tensors(path) == []
        return
    with pytest.raises(UserError, match=says) as error:
        load_tensors(path)
    assert "\n" not in str(error.value)


def test_what_could_swell_is_refused(tmp_path: Path) -> None:
    right = tensor_of(b"(K\x04t", b"(K\x01t")
    with pytest.raises(UserError, match="a compressed record"):
        load_tensors(forged(tmp_path / "x.pth", right, bytes(10**6), zipfile.ZIP_DEFLATED))
    # Two names for the same bytes: records that together are longer than the file.
    path = forged(tmp_path / "y.pth", right, bytes(10**4))
    content = bytearray(path.read_bytes())
    at = content.rfind(b"x/version")
    header = content.rfind(b"PK\x01\x02", 0, at)
    content[header + 20 : header + 28] = (10**6).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"records of more than its \d+ bytes"):
        load_tensors(path)


def test_old_files_that_declare_too_much(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"x": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"M\xe8\x03") >= 1
    path.write_bytes(content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x7f"[:5]))
    with pytest.raises(UserError, match="more numbers than its"):
        load_tensors(path)
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"cannot be read|numbers of 4 bytes"):
        load_tensors(path)
    path.write_bytes(pickle.dumps({"x": 1}, 2) * 3)
    with pytest.raises(UserError, match="no mark of torch's"):
        load_tensors(path)
