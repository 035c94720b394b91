"""Files that are made to do harm are refused: they run nothing, lead nowhere else, and fill no memory."""

import gzip
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import ExplicitVRLittleEndian

from backbones import UserError
from backbones.weights_file import read_weights
from tasks.checkpoint import load_checkpoint
from tasks.data.files.image_file import read_image
from tasks.data.files.limits import limit
from tasks.data.formats.cifar import CifarBatches
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.csv_table import CsvTable
from tasks.data.formats.npz_arrays import NpzArrays
from tasks.data.formats.voc import VocFolder
from tasks.experiment_file import read_experiment
from tasks.image_spec import ImageSpec


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def torch_zip(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "w.pth")
    return folder / "w.pth"


def torch_old(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "w.pt", _use_new_zipfile_serialization=False)
    return folder / "w.pt"


def plain_pickle(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, content: Any) -> Path:
        (folder / name).write_bytes(pickle.dumps(content))
        return folder / name

    return write


@pytest.mark.parametrize(
    "write", [torch_zip, torch_old, *map(plain_pickle, ("w.pkl", "w.bin", "w.ckpt", "w.th", "w.safetensors", "w.tar"))]
)
def test_weights_run_nothing(write: Callable[[Path, Any], Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = write(tmp_path, {"state_dict": {"weight": torch.ones(2)}, "extra": Payload(mark)})
    with pytest.raises(UserError) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload does nothing, and the test is none"


def test_arrays_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    trap = np.array([Payload(mark), None], dtype=object)
    np.savez(tmp_path / "data.npz", train_images=np.zeros((2, 4, 4), np.uint8), train_labels=trap)
    with pytest.raises(UserError, match="'train_labels' cannot be read \\(Python objects\\)"):
        NpzArrays(tmp_path / "data.npz").read("train")
    np.savez(tmp_path / "data.npz", train_images=trap)
    with pytest.raises(UserError, match="Python objects"):
        NpzArrays(tmp_path / "data.npz").read("train")
    np.save(tmp_path / "lone.npy", trap, allow_pickle=True)
    (tmp_path / "lone.npy").rename(tmp_path / "data.npz")
    with pytest.raises(UserError):
        NpzArrays(tmp_path / "data.npz").splits()
    assert not mark.exists()


def test_cifar_batches_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": Payload(mark)}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"], "more": Payload(mark)}))
    for split in ("train", "test"):
        with pytest.raises(UserError, match="could run code"):
            CifarBatches(tmp_path).read(split)
    assert not mark.exists()


def test_a_checkpoint_is_numbers_and_json(trained: Path, tmp_path: Path) -> None:
    mark, source = tmp_path / "mark", load_checkpoint(trained, prefer_best=False).folder
    folder = tmp_path / "step_00000001"
    folder.mkdir()
    (folder / "state.json").write_bytes((source / "state.json").read_bytes())
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError, match="damaged or truncated"):
        load_checkpoint(folder, prefer_best=False).tensors("model")
    (folder / "state.json").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError, match=r"state\.json: damaged"):
        load_checkpoint(folder, prefer_best=False)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "folder/secret.png", "C:\\x.png"])
def test_names_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    """Not by dots, not by a root, and not through a symbolic link to a file or a folder."""
    root, secret = tmp_path / "data", tmp_path / "secret.png"
    (root / "images").mkdir(parents=True)
    secret.write_bytes(b"secret")
    (root / "link.png").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    content = {
        "images": [{"id": 1, "file_name": name, "height": 4, "width": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"leads out of the folder|is a symbolic link to"):
        CocoFolder(root).read("train")
    (root / "labels.csv").write_text(f"image,label\n{name},x\n{name}_,y\n")
    with pytest.raises(UserError, match=r"leads out of the folder|is a symbolic link to"):
        CsvTable(root / "labels.csv").read(CsvTable(root / "labels.csv").splits()[0])


def test_the_root_may_be_a_link(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tiny_data)
    assert len(CocoFolder(tmp_path / "linked").read("train")) == 10


def png(folder: Path, height: int, width: int) -> Path:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in parts)  # fmt: skip
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return folder / "bomb.png"


def tiff(folder: Path, height: int, width: int) -> Path:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, height), (279, 10)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    (folder / "bomb.tif").write_bytes(
        b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + b"\0" * 300
    )
    return folder / "bomb.tif"


def dicom(folder: Path, height: int, width: int) -> Path:
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.Rows, file.Columns, file.BitsAllocated, file.BitsStored, file.HighBit = min(height, 65535), 65535, 8, 8, 7
    file.SamplesPerPixel, file.PixelRepresentation, file.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file.PixelData = b"\0" * 100
    pydicom.dcmwrite(folder / "bomb.dcm", file, enforce_file_format=True)
    return folder / "bomb.dcm"


@pytest.mark.parametrize("write", [png, tiff, dicom])
def test_sizes_are_looked_at_before_anything_is_decoded(
    write: Callable[[Path, int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, 100_000, 100_000)
    assert file.stat().st_size < 5000
    with pytest.raises(UserError, match=r"pixels; expected at most 178956970 in all: .*POLYHEAD_MAX_PIXELS higher"):
        read_image(file, ImageSpec())
    monkeypatch.setenv("POLYHEAD_MAX_PIXELS", "9")
    small = png(tmp_path, 4, 4)
    with pytest.raises(UserError, match="4 x 4 pixels; expected at most 9 in all"):
        read_image(small, ImageSpec())


def test_volumes_and_arrays_that_swell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = nibabel.Nifti1Image(np.zeros((200, 200, 50), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "v.nii.gz")
    np.savez_compressed(tmp_path / "a.npz", train_images=np.zeros((50, 200, 200), np.uint8), train_labels=[0] * 50)
    assert (tmp_path / "v.nii.gz").stat().st_size < 20_000
    monkeypatch.setenv("POLYHEAD_MAX_ARRAY_BYTES", "1000000")
    with pytest.raises(UserError, match="the volume is of 2000000 bytes; expected at most 1000000"):
        read_image(tmp_path / "v.nii.gz", ImageSpec(channels=1, mean=(0.5,), std=(0.5,)))
    with pytest.raises(UserError, match="the array 'train_images' is of 2000128 bytes"):
        NpzArrays(tmp_path / "a.npz").read("train")


def test_a_shape_that_no_memory_holds(tmp_path: Path) -> None:
    head = nibabel.Nifti1Header()
    head.set_data_shape((32767, 32767, 32767))
    head.set_data_dtype(np.float64)
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(head.binaryblock + b"\0" * 400))
    with pytest.raises(UserError, match="expected at most 68719476736"):
        read_image(tmp_path / "v.nii.gz", ImageSpec(channels=1, mean=(0.5,), std=(0.5,)))


def test_text_files_are_bounded(
    tiny_data: Path, tiny_config: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.csv").write_text("image,label\n" + "a.png,x\n" * 100)
    reads: list[Callable[[], object]] = [
        lambda: CocoFolder(tiny_data).read("train"),
        lambda: read_experiment(tiny_config),
        lambda: load_checkpoint(trained, prefer_best=False),
        lambda: CsvTable(tmp_path / "labels.csv").splits(),
    ]
    monkeypatch.setenv("POLYHEAD_MAX_TEXT_BYTES", "100")
    for read in reads:
        with pytest.raises(UserError, match="bytes; expected at most 100: set POLYHEAD_MAX_TEXT_BYTES higher"):
            read()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_without_entities(encoding: str, tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]><annotation>&a9;'
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_bytes(f"{text}</annotation>".encode(encoding))
    with pytest.raises(UserError, match="holds a document type definition"):
        VocFolder(tmp_path).read("all")


def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("many", "0", "-3", "1e9"):
        monkeypatch.setenv("POLYHEAD_MAX_PIXELS", text)
        with pytest.raises(UserError, match=r"POLYHEAD_MAX_PIXELS is .*; expected a whole number above 0"):
            limit("POLYHEAD_MAX_PIXELS")
    assert os.environ["POLYHEAD_MAX_PIXELS"] == "1e9"


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    assert str(UserError("a file\nof two\r\nlines")) == "a file of two lines"
