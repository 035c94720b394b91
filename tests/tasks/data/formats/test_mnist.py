"""IDX files: what torchvision reads from them."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.formats.mnist import MnistFiles
from tasks.data.splits import open_splits
from tasks.data.wanted import Wanted


def idx(values: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    head = bytes([0, 0, 8, values.ndim])
    return head + np.array(values.shape, ">i4").tobytes() + values.tobytes()


def write(folder: Path, zipped: bool = False, dot: str = "-") -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for prefix, count in (("train", 12), ("t10k", 10)):
        images = random.integers(0, 256, (count, 6, 5), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{name}-ubyte".replace("-idx", f"{dot}idx")
            content = idx(values)
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST])
@pytest.mark.parametrize("zipped", [False, True])
def test_equal_to_torchvision(tmp_path: Path, dataset: type[MNIST], zipped: bool) -> None:
    name = dataset.__name__
    write(tmp_path / name / "raw")
    root = write(tmp_path / f"zipped/{name}/raw", zipped=True).parents[1] if zipped else tmp_path
    for start in (root, root / name, root / name / "raw"):
        reader = MnistFiles(start)
        assert MnistFiles.recognises(start)
        assert reader.splits() == ["test", "train"]
        for split in ("train", "test"):
            theirs, ours = dataset(str(tmp_path), train=split == "train"), reader.read(split)
            assert ours.pixels is not None
            assert ours.image_labels is not None
            np.testing.assert_array_equal(ours.pixels[..., 0].numpy(), theirs.data.numpy())
            assert ours.image_labels.tolist() == theirs.targets.tolist()
            plain = [label.split(" - ")[0] for label in theirs.classes] if dataset is MNIST else theirs.classes
            assert list(ours.label_map.names) == plain


def test_recognised_and_named_with_dots(tmp_path: Path) -> None:
    root = write(tmp_path / "set", dot=".")
    train, val, _ = open_splits(DataConfig(root=root), 0, Wanted(boxes=False, labels="single"))
    assert (len(train), len(val)) == (12, 10)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected an IDX file"),
        (b"\0\0\x0d\x01" + bytes(8), "expected an IDX file of bytes"),
        (b"\0\0\x08\x03\0\0\0\x01", "than"),
        (idx(np.zeros((2, 6, 5), np.uint8))[:-1], r"fewer values than \[2, 6, 5\] says"),
        (idx(np.zeros((2, 6, 5), np.uint8)) + b"1", r"more values than \[2, 6, 5\] says"),
        (b"\0\0\x08\x01" + b"\xff\xff\xff\xff", "whole IDX"),
        (idx(np.zeros((2, 6, 5), np.uint8)), "a label for each image"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, says: str) -> None:
    root = write(tmp_path / "raw")
    (root / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        MnistFiles(root).read("train")
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_archives_and_missing_files(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", zipped=True)
    file = root / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        MnistFiles(root).read("train")
    (root / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="no train-labels-idx1-ubyte"):
        MnistFiles(root).read("train")
    write(tmp_path / "a/raw")
    write(tmp_path / "b/raw")
    with pytest.raises(UserError, match="holds several data sets"):
        MnistFiles(tmp_path).splits()
