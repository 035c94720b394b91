"""CIFAR's own files: what torchvision reads from them, and pickles that could run code are refused."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.formats.cifar import CifarBatches
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted

NAMES = [f"class {index}" for index in range(10)]


def batch(seed: int, count: int = 4, classes: int = 10) -> tuple[np.ndarray[Any, Any], list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), np.uint8), random.integers(0, classes, count).tolist()


def write_python(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        data, labels = batch(seed)
        # Protocol 2, as the published files have it.
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels, "filenames": ["x"] * 4}, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, 2))
    return root


def require_equal(annotations: Annotations, theirs: Any) -> None:
    assert annotations.pixels is not None
    np.testing.assert_array_equal(annotations.pixels.numpy(), theirs.data)
    assert annotations.image_labels is not None
    assert annotations.image_labels.tolist() == theirs.targets
    assert list(annotations.label_map.names) == theirs.classes


def without_checksums(dataset: Any, monkeypatch: pytest.MonkeyPatch, root: Path) -> Any:
    """torchvision's class, which otherwise reads the published bytes alone."""

    def own(entries: list[list[str]]) -> list[list[str]]:
        folder = root / dataset.base_folder
        return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name, _ in entries]

    monkeypatch.setattr(dataset, "train_list", own(dataset.train_list))
    monkeypatch.setattr(dataset, "test_list", own(dataset.test_list))
    name = dataset.meta["filename"]
    md5 = hashlib.md5((root / dataset.base_folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": md5})
    return dataset


def test_equal_to_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = without_checksums(CIFAR10, monkeypatch, write_python(tmp_path))
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        reader = CifarBatches(root)
        assert reader.splits() == ["test", "train"]
        require_equal(reader.read("train"), dataset(str(tmp_path), train=True))
        require_equal(reader.read("test"), dataset(str(tmp_path), train=False))
    train, val, _ = open_splits(DataConfig(root=tmp_path), 0, Wanted(boxes=False, labels="single"))
    assert (len(train), len(val)) == (20, 4)


def test_fine_labels_of_100_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for seed, name in enumerate(("train", "test")):
        data, labels = batch(seed, classes=100)
        (folder / name).write_bytes(pickle.dumps({"data": data, "fine_labels": labels, "coarse_labels": [0] * 4}, 2))
    fine = [f"fine {index}" for index in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": fine, "coarse_label_names": ["x"]}, 2))
    dataset = without_checksums(CIFAR100, monkeypatch, tmp_path)
    require_equal(CifarBatches(tmp_path).read("train"), dataset(str(tmp_path), train=True))


@pytest.mark.parametrize(("folder", "front"), [("cifar-10-batches-bin", 1), ("cifar-100-binary", 2)])
def test_the_binary_form(tmp_path: Path, folder: str, front: int) -> None:
    (tmp_path / folder).mkdir()
    data, labels = batch(0)
    rows = np.concatenate([np.full((4, front - 1), 9, np.uint8), np.array(labels, np.uint8)[:, None], data], 1)
    (tmp_path / folder / ("data_batch_1.bin" if front == 1 else "train.bin")).write_bytes(rows.tobytes())
    names = "\n".join(name.replace(" ", "_") for name in NAMES) + "\n\n"
    (tmp_path / folder / ("batches.meta.txt" if front == 1 else "fine_label_names.txt")).write_text(names)
    annotations = CifarBatches(tmp_path).read("train")
    assert annotations.pixels is not None
    np.testing.assert_array_equal(annotations.pixels.numpy(), data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert annotations.image_labels is not None
    assert annotations.image_labels.tolist() == labels
    assert ("1 of 5 files are there" in str(annotations.report)) == (front == 1)


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def test_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    root = write_python(tmp_path / "set")
    content = {"data": Malicious(tmp_path / "trace"), "labels": [0]}
    (root / "cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"data_batch_3: holds posix\.system; expected only arrays"):
        CifarBatches(root).read("train")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "no 'data'"),
        ({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]}, "no 'data' of"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "no 'labels' of one number"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 11]}, "reach from 0 to 11 for 10 classes"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, content: Any, says: str) -> None:
    root = write_python(tmp_path)
    (root / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=says) as error:
        CifarBatches(root).read("test")
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    root = write_python(tmp_path)
    binary = root / "cifar-10-batches-bin"
    binary.mkdir()
    (binary / "test_batch.bin").write_bytes(bytes(100))
    (binary / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"cifar-10-batches-py, cifar-10-batches-bin; set data\.root"):
        CifarBatches(root).splits()
    with pytest.raises(UserError, match="100 bytes; expected rows of 3073"):
        CifarBatches(binary).read("test")
    (root / "cifar-10-batches-py/batches.meta").write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match="no list of class names"):
        CifarBatches(root / "cifar-10-batches-py").read("test")
