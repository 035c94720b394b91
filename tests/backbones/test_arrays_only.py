"""Pickles of arrays: equal to pickle.loads, and nothing in them is ever called."""

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.arrays_only import load_arrays
from backbones.errors import UserError


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


CONTENT: dict[str, Any] = {
    "uint8": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(5, dtype=">i4"),
    "half": np.ones((2, 2), np.float16),
    "flags": np.array([True, False]),
    "names": np.array(["a", "bcd"]),
    "empty": np.zeros((0, 4), np.float32),
    "none dimensional": np.array(3),
    "scalar": np.float32(1.5),
    "plain": [1, -(2**70), 2.5, True, None, "text", b"bytes", b"", (1, (2,))],
    "tree": {"a": {"b": [{}]}},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_equal_to_the_real_unpickler(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "file.pkl"
    file.write_bytes(pickle.dumps(CONTENT, protocol))
    assert same(load_arrays(file), CONTENT)


def test_arrays_of_python_2(tmp_path: Path) -> None:
    # What Python 2 writes: numpy's old module names, and the bytes of an array as a text.
    array = np.array([[0, 127], [200, 255]], np.uint8)
    text = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\n"
        b"Rp7\n(I1\n(I2\nI2\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\n"
        b"tp14\nbI00\nS'\\x00\\x7f\\xc8\\xff'\np15\ntp16\nbs."
    )
    file = tmp_path / "batch"
    file.write_bytes(text)
    loaded = load_arrays(file)
    assert list(loaded) == ["data"]
    assert same(loaded["data"], array)


def test_arrays_are_writable_and_stay_shared(tmp_path: Path) -> None:
    array = np.arange(3)
    for value in ([array, array], collections.OrderedDict(a=array, b=array)):
        (tmp_path / "file").write_bytes(pickle.dumps(value))
        loaded = load_arrays(tmp_path / "file")
        first, second = loaded.values() if isinstance(loaded, dict) else loaded
        first[0] = 7
        assert second[0] == 7


class Malicious:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("call", "name"), [(os.system, "system"), (eval, "eval"), (getattr, "getattr"), (np.load, "load"), (open, "open")]
)
def test_nothing_is_called(tmp_path: Path, call: Any, name: str, protocol: int) -> None:
    trace = tmp_path / "trace"
    argument = {"system": f"touch {trace}", "eval": f"open({str(trace)!r}, 'w')"}.get(name, str(trace))
    more = {"getattr": ["x"], "open": ["w"]}.get(name, [])
    file = tmp_path / "file.pkl"
    file.write_bytes(pickle.dumps({"data": [Malicious(call, argument, *more)]}, protocol))
    with pytest.raises(UserError, match=rf"{name}; expected only arrays") as error:
        load_arrays(file)
    assert "\n" not in str(error.value)
    assert not trace.exists()


def test_the_trap_works_at_all(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Malicious(os.system, f"touch {trace}")))
    assert trace.exists()


def _forged(path: Path, *states: bytes) -> Path:
    path.write_bytes(b"".join(states))
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(np.array([object, {}], object)), "array of the type 'O8'"),
        (pickle.dumps(np.zeros(2, [("a", "i4")])), "array of the type 'V4'"),
        (pickle.dumps(np.datetime64("2020-01-01")), "array of the type 'M8'"),
        # An array over memory that is not its own: numpy.ndarray((9,), ...)
        (b"cnumpy\nndarray\n((I9\nttR.", "a call of numpy.ndarray"),
        (b"cnumpy\nndarray\n.", "a function or class"),
        (b"cnumpy.core.multiarray\n_reconstruct\n.", "a function or class"),
        (b"cbuiltins\nbytes\n(I1000000000000\ntR.", "a call of bytes"),
        (b"Pname\n.", "a reference to something outside"),
        (b"\x82\x01.", "the registered extension 1"),
        # What a name stands for gets other defaults: cannot take effect on what is read later.
        (b"cnumpy.core.multiarray\nscalar\n(N}X\x0c\x00\x00\x00__defaults__(I5\ntstb.", "a change of what it names"),
        # The 2**31-th object of ten bytes.
        (b"]r\xff\xff\xff\x7f0.", "may be cut off or damaged"),
        # 2 x 2 numbers in a single byte.
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I2\nI2\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS'a'\ntb.",
            r"shape \(2, 2\) in 1 bytes",
        ),
        (pickle.dumps({1, 2}), "expected only arrays"),
        (pickle.dumps(CONTENT)[:-40], "may be cut off or damaged"),
        (b"", "may be cut off or damaged"),
        (b"(" * 100 + b".", "may be cut off or damaged"),
        (b"]" * 5000 + b"a" * 4999 + b".", "may be cut off or damaged"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        load_arrays(_forged(tmp_path / "file", content))
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_arrays(tmp_path / "gone")
