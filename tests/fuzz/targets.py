"""What is fuzzed. Each target makes one input from a seed and gives it to our code, in a folder of its own."""

import io
import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from heads import BoxTargets
from heads.box_coder import BoxCoder
from heads.matcher import match
from tasks.checkpoint import load_checkpoint
from tasks.command_line import take_free_options
from tasks.config import DataConfig, Experiment, FasterRCNNConfig, PluginHeadConfig
from tasks.data.annotations import Annotations
from tasks.data.files.image_file import frame_count, read_image
from tasks.data.formats.cells import write_cells
from tasks.data.formats.coco import CocoFolder
from tasks.data.formats.csv_table import CsvTable
from tasks.data.formats.mask_folders import MaskFolders
from tasks.data.formats.npz_arrays import NpzArrays
from tasks.data.formats.readers import Reader
from tasks.data.formats.voc import VocFolder
from tasks.experiment_file import read_experiment
from tasks.image_spec import ImageSpec
from tasks.sliding_window import window_starts
from tests.fuzz.mutation import spoil_bytes, spoil_parts, spoil_tree, spoil_words

Target = Callable[[random.Random], None]


def targets(folder: Path) -> dict[str, Target]:
    """All of them by name; files they need are written into `folder`."""
    cells = write_cells(folder / "cells", train=2, val=1, size=32)
    return {
        **dict(_annotations(folder, cells)),
        **dict(_files(folder)),
        **dict(_settings(folder)),
        "boxes": _boxes,
        "matcher": _matcher,
        "windows": _windows,
    }


def _use(reader: Reader, masks: bool = False) -> None:
    """Read the first split and the first image's annotations, as training would."""
    found = reader.read(reader.splits()[0], masks=masks)
    assert isinstance(found, Annotations)
    for index in range(min(len(found), 1)):
        objects = found.objects(index)
        assert np.isfinite(objects.boxes).all()
        assert (objects.labels < len(found.label_map)).all()
        if found.segments is not None:
            found.masks(index, (32, 32))


def _annotations(folder: Path, cells: Path) -> Iterator[tuple[str, Target]]:
    coco = json.loads((cells / "annotations/instances_train.json").read_text())
    coco["annotations"] = coco["annotations"][:4]

    def read_coco(draw: random.Random) -> None:
        text = json.dumps(spoil_tree(coco, draw)).encode()
        if draw.random() < 0.2:
            text = spoil_bytes(text, draw)
        (cells / "annotations/instances_train.json").write_bytes(text)
        _use(CocoFolder(cells), masks=True)

    yield "coco", read_coco

    voc = folder / "voc"
    for place in ("Annotations", "JPEGImages"):
        (voc / place).mkdir(parents=True)
    picture = cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1].tobytes()
    (voc / "JPEGImages/a.png").write_bytes(picture)
    xml = (
        b"<annotation><filename>a.png</filename><size><width>32</width><height>32</height><depth>3</depth></size>"
        b"<object><name>cell</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax>"
        b"<ymax>12</ymax></bndbox></object></annotation>"
    )

    def read_voc(draw: random.Random) -> None:
        spoilt = spoil_parts(xml.decode(), "<>", draw) if draw.random() < 0.5 else spoil_bytes(xml, draw)
        (voc / "Annotations/a.xml").write_bytes(spoilt)
        _use(VocFolder(voc))

    yield "voc", read_voc

    table = folder / "table"
    (table / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (table / "images" / name).write_bytes(picture)
    lines = b"file,label,group,weight\nimages/a.png,cat,1,0.5\nimages/b.png,dog,2,1\n"

    def read_table(draw: random.Random) -> None:
        spoilt = spoil_parts(lines.decode(), ",\n", draw) if draw.random() < 0.5 else spoil_bytes(lines, draw)
        (table / "labels.csv").write_bytes(spoilt)
        _use(CsvTable(table))

    yield "csv", read_table

    masks = folder / "masks"
    for place in ("images", "masks"):
        (masks / place).mkdir(parents=True)
    (masks / "images/a.png").write_bytes(picture)
    mask = cv2.imencode(".bmp", np.eye(32, dtype=np.uint8) * 2)[1].tobytes()

    def read_masks(draw: random.Random) -> None:
        (masks / "masks/a.bmp").write_bytes(spoil_bytes(mask, draw))
        reader = MaskFolders(masks)
        found = reader.read(reader.splits()[0], masks=True)
        assert found.mask_files is not None
        drawn = found.mask_files.read(0, masks, found.label_map, (32, 32))
        assert drawn.shape == (32, 32, 1)

    yield "masks", read_masks

    buffer = io.BytesIO()
    np.savez(buffer, train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.array([0, 1]))

    def read_npz(draw: random.Random) -> None:
        (folder / "data.npz").write_bytes(spoil_bytes(buffer.getvalue(), draw))
        _use(NpzArrays(folder / "data.npz", DataConfig()))

    yield "npz", read_npz


def _files(folder: Path) -> Iterator[tuple[str, Target]]:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        content = cv2.imencode(suffix, noise)[1].tobytes()

        def read(draw: random.Random, suffix: str = suffix, content: bytes = content) -> None:
            file = folder / f"image{suffix}"
            file.write_bytes(spoil_bytes(content, draw))
            frame_count(file, "axial")
            pixels = read_image(file, ImageSpec())
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3

        yield f"image{suffix}", read

    from backbones.weights_file import read_weights

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(tensors, new)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    blobs = pickle.dumps({"model": {"w": np.ones((2, 2), np.float32)}})
    for name, content in (("new.pth", new.getvalue()), ("old.pth", old.getvalue()), ("blobs.pkl", blobs)):

        def weights(draw: random.Random, name: str = name, content: bytes = content) -> None:
            (folder / name).write_bytes(spoil_bytes(content, draw))
            assert read_weights(folder / name).tensors

        yield f"weights {name}", weights


def _settings(folder: Path) -> Iterator[tuple[str, Target]]:
    config = Experiment(heads={"boxes": FasterRCNNConfig()})
    tree = config.model_dump(mode="json")

    def read_config(draw: random.Random) -> None:
        text = json.dumps(spoil_tree(tree, draw)).encode()
        (folder / "config.json").write_bytes(spoil_bytes(text, draw) if draw.random() < 0.2 else text)
        read_experiment(folder / "config.json")

    yield "config.json", read_config

    words = ["c.py", "--backbone.options.width", "3", "--heads.mine.options.kind=fast", "--optimizer.lr", "0.1", "{}"]

    def read_words(draw: random.Random) -> None:
        own = Experiment(heads={"mine": PluginHeadConfig(name="mine")})
        take_free_options(spoil_words(words, draw), own)

    yield "options", read_words

    run = folder / "step_00000003"
    run.mkdir()
    state = {"format": 1, "step": 3, "labels": {"boxes": {"ids": [1], "names": ["a"]}}, "config": tree, "scaler": {},
             "steps_per_epoch": 5}  # fmt: skip
    save_file({"w": torch.ones(3), "v": torch.zeros(2, 2)}, run / "model.safetensors")
    model = (run / "model.safetensors").read_bytes()

    def read_checkpoint(draw: random.Random) -> None:
        text = json.dumps(spoil_tree(state, draw) if draw.random() < 0.5 else state).encode()
        (run / "state.json").write_bytes(spoil_bytes(text, draw) if draw.random() < 0.2 else text)
        (run / "model.safetensors").write_bytes(spoil_bytes(model, draw) if draw.random() < 0.5 else model)
        found = load_checkpoint(run, prefer_best=True)
        found.tensors("model")

    yield "checkpoint", read_checkpoint


def _random_boxes(draw: random.Random, count: int) -> torch.Tensor:
    scale = draw.choice([1e-3, 1.0, 100.0, 1e4])
    corners = torch.tensor([[draw.uniform(-1, 1) * scale for _ in range(2)] for _ in range(count)]).reshape(-1, 2)
    sides = torch.tensor([[draw.uniform(0.01, 1) * scale for _ in range(2)] for _ in range(count)]).reshape(-1, 2)
    return torch.cat((corners, corners + sides), 1)


def _boxes(draw: random.Random) -> None:
    """Decoding undoes encoding, to the precision of the boxes' coordinates."""
    count = draw.randint(0, 5)
    boxes, references = _random_boxes(draw, count), _random_boxes(draw, count)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    decoded = coder.decode(coder.encode(boxes, references), references)
    ratio = (boxes[:, 2:] - boxes[:, :2]) / (references[:, 2:] - references[:, :2])
    near = (ratio < 50).all(1)  # above, sizes are limited
    limit = 1e-4 * max(1.0, float(boxes.abs().max()), float(references.abs().max())) if count else 0.0
    assert torch.isfinite(decoded).all()
    assert ((decoded - boxes).abs()[near] <= limit).all()


def _matcher(draw: random.Random) -> None:
    """Against a loop over all pairs in double precision; chunks change nothing."""
    boxes, truth = _random_boxes(draw, draw.randint(1, 6)), _random_boxes(draw, draw.randint(1, 4))
    if draw.random() < 0.5:
        truth = boxes[torch.tensor([draw.randrange(len(boxes)) for _ in range(len(truth))])] + draw.uniform(0, 0.1)
    labels = torch.tensor([[draw.choice([-1, 0, 1]) for _ in range(len(truth))]])
    crowd = torch.zeros(1, len(truth), dtype=torch.bool)
    given = BoxTargets(truth[None], labels, crowd, torch.ones(1, dtype=torch.bool))
    candidates = torch.ones(1, len(boxes), dtype=torch.bool)
    found = match(boxes, candidates, given, 0.5, 0.3, low_quality=False)
    small = match(boxes, candidates, given, 0.5, 0.3, low_quality=False, max_pairs=1)
    assert torch.equal(found.positive, small.positive)
    assert torch.equal(found.negative, small.negative)
    for number, box in enumerate(boxes.double().tolist()):
        overlaps = [
            _iou(box, one) if label >= 0 else -1.0
            for one, label in zip(truth.double().tolist(), labels[0].tolist(), strict=True)
        ]
        best = max(overlaps)
        if abs(best - 0.5) > 1e-3:
            assert bool(found.positive[0, number]) == (best > 0.5)
        if abs(best - 0.3) > 1e-3:
            assert bool(found.negative[0, number]) == (best < 0.3)


def _iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _windows(draw: random.Random) -> None:
    """They cover a side, stay on it, and begin one after the other."""
    length, window = draw.randint(1, 400), draw.randint(1, 200)
    starts = window_starts(length, window, draw.uniform(0, 0.99))
    covered = np.zeros(length, bool)
    for start in starts:
        assert start >= 0
        assert start + min(window, length) <= length
        covered[start : start + window] = True
    assert covered.all()
    assert starts == sorted(set(starts))
