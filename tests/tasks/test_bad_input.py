"""A user's mistake gives one line that begins with "error: ", exit code 2 and no traceback; or is mended and told."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tasks.arguments import PredictArguments
from tasks.checkpoint import Checkpoint, load_checkpoint
from tasks.config import Experiment
from tasks.data.files.image_file import Exif
from tasks.prediction.predicting_files import predict_files

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "from tasks.config import *\n"
Edit = Callable[[Callable[[Any], object]], Path]

# Arguments after `train CONFIG`, and what the message must hold.
ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "missing root": (["--data.root", "no/such/folder"], ["data.root", "no/such/folder", "does not exist"]),
    "unknown field": (["--optimizer.lrr", "0.1"], ["--optimizer.lrr", "did you mean --optimizer.lr?"]),
    "unknown field of a head": (["--heads.boxes.roi_sample", "3"], ["did you mean --heads.boxes.roi_samples?"]),
    "unknown option": (["--outt", "x"], ["--outt", "--out"]),
    "wrong type": (["--optimizer.lr", "fast"], ["--optimizer.lr", "'fast'"]),
    "wrong choice": (["--optimizer.name", "sgdd"], ["optimizer.name", "sgdd", "adamw"]),
    "unknown device": (["--runner.device", "tpu"], ["runner.device", "tpu", "cpu"]),
    "missing value": (["--optimizer.lr"], ["--optimizer.lr"]),
    "negative rate": (["--optimizer.lr", "-0.1"], ["optimizer.lr", "-0.1", "greater than 0"]),
    "rate not finite": (["--optimizer.lr", "nan"], ["optimizer.lr", "nan"]),
    "no batch": (["--data.batch_size", "0"], ["data.batch_size", "0"]),
    "no epochs": (["--schedule.epochs", "0"], ["schedule.epochs", "0"]),
    "probability": (["--data.augment.horizontal_flip", "1.5"], ["data.augment.horizontal_flip", "1.5"]),
    "milestones in epochs": (
        ["--schedule.steps", "9"],
        ["schedule.milestones are 8 11 epochs", "now be steps"],
    ),
    "epochs of a run in steps": (
        ["--schedule.steps", "9", "--schedule.milestones", "3", "--schedule.epochs", "2"],
        ["--schedule.epochs is 2, but schedule.steps is 9"],
    ),
    "fraction": (["--data.val_fraction", "1"], ["data.val_fraction", "1"]),
    "empty tuple": (["--data.short_side"], ["data.short_side", "()"]),
    "no aspect ratio": (["--heads.boxes.aspect_ratios"], ["heads.boxes.aspect_ratios", "()"]),
    "keep nothing": (["--runner.keep_last", "0"], ["runner.keep_last", "0"]),
    "decay": (["--runner.ema_decay", "1.5"], ["runner.ema_decay", "1.5"]),
    "std of zero": (["--image.std", "0", "1", "1"], ["image", "std", "0.0"]),
    "mean of another length": (["--image.mean", "0.5"], ["image.mean", "1 values", "3 channels"]),
    "accumulate": (["--runner.accumulate", "3"], ["data.batch_size", "2", "multiple of 3"]),
    "anchor sizes": (["--heads.boxes.anchor_sizes", "8", "16"], ["anchor_sizes", "5 sizes"]),
    "no such backbone": (["--backbone.name", "resnet19"], ["resnet19", "not registered", "resnet18"]),
    "no such weights": (["--backbone.weights", "nothing.safetensors"], ["nothing.safetensors", "no such file"]),
    "no such split": (["--data.train", "trains"], ["data.train", "trains", "train, val"]),
    "no such format": (["--data.format", "cocoo"], ["cocoo", "not registered", "coco"]),
    "no such metric": (["--runner.monitor", "boxes/mAP"], ["boxes/mAP", "boxes/AP50", "boxes/AP/red_cell"]),
    "no such init": (["--init", "nowhere"], ["nowhere", "no such folder"]),
    "no such resume": (["--resume", "nowhere"], ["nowhere", "no such folder"]),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case: str, command, tiny_config: Path, tmp_path: Path) -> None:
    arguments, held = ARGUMENTS[case]
    complaint = command("train", tiny_config, "--out", tmp_path / "run", *arguments).complaint
    assert [words for words in held if words not in complaint] == [], complaint
    assert not (tmp_path / "run").exists(), "a run folder was left behind"


CONFIGS: dict[str, tuple[str, list[str]]] = {
    "syntax": (CONFIG + "def config(:\n", ["bad.py:2", "SyntaxError"]),
    "exception": (CONFIG + "def config():\n    return 1 / 0\n", ["bad.py:3", "ZeroDivisionError"]),
    "import": ("import nothing_of_that_name\n", ["bad.py:1", "nothing_of_that_name"]),
    "no config()": (CONFIG, ["bad.py", "has no function config()"]),
    "other result": (CONFIG + "def config():\n    return 3\n", ["bad.py", "int", "Experiment"]),
    "unknown field": (
        CONFIG + "def config():\n    cfg = Experiment()\n    cfg.optimizer.lrr = 1\n    return cfg\n",
        ["bad.py", "lrr", "did you mean lr?"],
    ),
    "unknown keyword": (
        CONFIG + "def config():\n    return Experiment(heads={'boxes': FasterRCNNConfig(roi_sample=3)})\n",
        ["bad.py", "roi_sample", "did you mean roi_samples?"],
    ),
    "unknown keyword of a one-stage head": (
        CONFIG + "def config():\n    return Experiment(heads={'boxes': RetinaNetConfig(anchor_size=(32,))})\n",
        ["bad.py", "anchor_size", "did you mean anchor_sizes?"],
    ),
    "option of a one-stage head": (
        CONFIG + "def config():\n    return Experiment(heads={'boxes': FCOSConfig(scale_limits=(64, 32))})\n",
        ["fcos", "scale_limits", "(64", "4 rising numbers, one for each of p3, p4, p5, p6"],
    ),
    "wrong type": (
        CONFIG + "def config():\n    return Experiment(data=DataConfig(batch_size='many'))\n",
        ["bad.py", "batch_size", "'many'", "integer"],
    ),
    "backbone option": (
        CONFIG + "def config():\n    backbone = BackboneConfig(name='resnet18', options={'depht': 3})\n"
        "    return Experiment(backbone=backbone, heads={'boxes': FasterRCNNConfig()})\n",
        ["resnet18", "depht", "it takes resnet18(", "norm"],
    ),
    "no heads": (CONFIG + "def config():\n    return Experiment()\n", ["heads is empty"]),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_config_file(case: str, command, tmp_path: Path, tiny_data: Path) -> None:
    text, held = CONFIGS[case]
    (tmp_path / "bad.py").write_text(text)
    arguments = ["--out", tmp_path / "run", "--data.root", tiny_data, "--runner.precision", "fp32"]
    complaint = command("train", tmp_path / "bad.py", *arguments).complaint
    assert [words for words in held if words not in complaint] == [], complaint


@pytest.mark.parametrize(
    ("change", "held"),
    [
        (lambda config: config["optimizer"].update(lrr=1), ["optimizer.lrr", "did you mean optimizer.lr?"]),
        (lambda config: config["heads"]["boxes"].update(roi_sample=1), ["did you mean heads.boxes.roi_samples?"]),
        (lambda config: config["data"].update(batch_size="many"), ["data.batch_size", "'many'"]),
        (lambda config: config.update(optimiser={}), ["optimiser", "did you mean optimizer?"]),
    ],
)
def test_config_json(change: Callable[[Any], object], held: list[str], command, tiny_config: Path) -> None:
    config = json.loads(tiny_config.read_text())
    change(config)
    tiny_config.write_text(json.dumps(config))
    complaint = command("train", tiny_config).complaint
    assert [words for words in held if words not in complaint] == [], complaint


@pytest.mark.parametrize(
    ("name", "content", "held"),
    [
        ("cut.json", b'{"name": "x", ', ["cut.json", "not a config"]),
        ("binary.json", b"\xff\xfe\x00\x81", ["binary.json", "not a"]),
        ("config.yaml", b"name: x", ["config.yaml", ".py or .json"]),
    ],
)
def test_not_a_config(name: str, content: bytes, held: list[str], command, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    complaint = command("train", tmp_path / name).complaint
    assert [words for words in held if words not in complaint] == [], complaint


def test_no_config(command) -> None:
    assert "no config given" in command("train").complaint
    assert "did you mean configs/det/faster_rcnn_r50_fpn.py?" in command("train", "faster_rcnn_r50_fpn.py").complaint


def first_image(coco: dict[str, Any]) -> dict[str, Any]:
    image: dict[str, Any] = coco["images"][0]
    return image


def outside(coco: dict[str, Any]) -> None:
    first_image(coco)["file_name"] = "../../secret.png"


def repeat_image_id(coco: dict[str, Any]) -> None:
    coco["images"][1]["id"] = coco["images"][0]["id"]


DATA: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "missing image": (lambda coco: first_image(coco).update(file_name="gone.png"), ["gone.png"]),
    "outside the folder": (outside, ["../../secret.png"]),
    "unknown category": (lambda coco: coco["annotations"][0].update(category_id=77), ["category_id", "77", "red_cell"]),
    "two images of one id": (repeat_image_id, ["image id", "train_0001.png", "train_0002.png"]),
    "two categories of one id": (lambda coco: coco["categories"][1].update(id=1), ["category id 1", "twice"]),
    "no images": (lambda coco: coco.update(images=[], annotations=[]), ["0 images"]),
    "no boxes": (lambda coco: coco.update(annotations=[]), ["no usable box"]),
    "not COCO": (lambda coco: coco.pop("categories"), ["not COCO", "categories"]),
    "other classes": (lambda coco: coco["categories"][0].update(name="blue_cell"), ["blue_cell", "red_cell"]),
}


@pytest.mark.parametrize("case", DATA)
def test_annotations(case: str, command, edit: Edit, tiny_config: Path, tmp_path: Path) -> None:
    change, held = DATA[case]
    root = edit(change)
    complaint = command("train", tiny_config, "--out", tmp_path / "run", "--data.root", root).complaint
    assert [words for words in [str(root), *held] if words not in complaint] == [], complaint


def test_instances_need_outlines(command, edit: Edit, tiny_instances: Experiment, written, tmp_path: Path) -> None:
    def strip(coco: dict[str, Any]) -> None:
        for annotation in coco["annotations"]:
            del annotation["segmentation"]

    root = edit(strip)
    complaint = command("train", written(tiny_instances), "--out", tmp_path / "run", "--data.root", root).complaint
    assert str(root) in complaint
    assert "no object of the split 'train' has an outline; expected COCO json with segmentations" in complaint


def test_json_cut_off(command, copied_data: Path, tiny_config: Path, tmp_path: Path) -> None:
    file = copied_data / "annotations" / "instances_val.json"
    file.write_bytes(file.read_bytes()[:-500])
    complaint = command("train", tiny_config, "--out", tmp_path / "run", "--data.root", copied_data).complaint
    assert str(file) in complaint
    assert "not valid json" in complaint


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_jpeg(workers: int, command, edit: Edit, tiny_config: Path, tmp_path: Path) -> None:
    def to_jpeg(coco: dict[str, Any]) -> None:
        for image in coco["images"]:
            image["file_name"] = image["file_name"].replace(".png", ".jpg")

    root = edit(to_jpeg)
    for file in sorted((root / "train").glob("*.png")):
        Image.open(file).save(file.with_suffix(".jpg"))
    cut = root / "train" / "train_0003.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    arguments = ["--data.root", root, "--data.workers", str(workers)]
    complaint = command("train", tiny_config, "--out", tmp_path / "run", *arguments).complaint
    assert str(cut) in complaint
    assert "cut off or damaged" in complaint


def test_boxes_that_cannot_be_used_are_counted_and_named(
    command, edit: Edit, tiny_config: Path, tmp_path: Path
) -> None:
    def spoil(coco: dict[str, Any]) -> None:
        boxes = ([200, 200, 10, 10], [5, 5, 0, 7], [float("nan"), 1, 2, 3], [20, 20, -5, 9], [50, 50, 40, 40])
        for number, box in enumerate(boxes):
            coco["annotations"].append({**coco["annotations"][0], "id": 9001 + number, "bbox": box})
        coco["annotations"].append(coco["annotations"][0])

    said = command("train", tiny_config, "--out", tmp_path / "run", "--data.root", edit(spoil))
    assert said.code == 0, said.error
    for words in (
        "dropped 1 boxes outside their image (annotation 9001",
        "dropped 2 boxes without area (annotation 9002",
        "dropped 1 boxes that are not four finite numbers (annotation 9003",
        "mended 1 boxes clipped to their image (annotation 9005",
        "dropped 1 repeated annotations",
    ):
        assert words in said.out


def test_images_of_other_kinds_are_read(command, copied_data: Path, tiny_config: Path, tmp_path: Path) -> None:
    folder = copied_data / "train"
    files = sorted(folder.glob("*.png"))
    colour = [cv2.imread(str(file)) for file in files[:4]]
    cv2.imwrite(str(files[0]), colour[0].astype(np.uint16) * 257)
    cv2.imwrite(str(files[1]), cv2.cvtColor(colour[1], cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(files[2]), cv2.cvtColor(colour[2], cv2.COLOR_BGR2BGRA))
    Image.open(files[3]).convert("CMYK").save(folder / "cmyk.jpg")
    files[3].write_bytes((folder / "cmyk.jpg").read_bytes())
    said = command("train", tiny_config, "--out", tmp_path / "run", "--data.root", copied_data)
    assert said.code == 0, said.error


def test_batches_without_a_box(command, edit: Edit, tiny_config: Path, tmp_path: Path) -> None:
    """Only one image keeps its boxes, so most batches have none."""

    def empty(coco: dict[str, Any]) -> None:
        coco["annotations"] = [entry for entry in coco["annotations"] if entry["image_id"] == 2]

    root = edit(empty)
    said = command("train", tiny_config, "--out", tmp_path / "run", "--data.root", root, "--data.batch_size", "1")
    assert said.code == 0, said.error
    assert "9 images without" in said.out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    without = [line for line in lines if "losses" in line and line["losses"]["boxes/loss_roi_box"] == 0]
    assert len(without) == 9
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_out_in_use(command, tiny_config: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("dear")
    complaint = command("train", tiny_config, "--out", tmp_path / "used").complaint
    assert str(tmp_path / "used") in complaint
    assert "not empty" in complaint
    assert "exists" in command("train", tiny_config, "--out", tiny_config).complaint


def test_run_without_checkpoint(command, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name, arguments in (("train", ["--resume"]), ("evaluate", []), ("predict", [])):
        complaint = command(name, *arguments, tmp_path / "run", *(["x.png"] if name == "predict" else [])).complaint
        assert "holds no checkpoint" in complaint or "no image there" in complaint


class TestCheckpoint:
    """What a checkpoint does not fit, and what is not one."""

    @pytest.fixture
    def checkpoint(self, trained: Path, tmp_path: Path) -> Path:
        """A copy of the last one, to be spoiled."""
        run = Path(shutil.copytree(trained, tmp_path / "copy"))
        return max((run / "checkpoints").glob("step_*"))

    @pytest.mark.parametrize("way", [["evaluate"], ["train", "--resume"]])
    def test_another_architecture(self, way: list[str], command, checkpoint: Path) -> None:
        run = checkpoint.parents[1]
        complaint = command(*way, run, "--backbone.name", "resnet34").complaint
        assert "another architecture" in complaint
        assert "backbone." in complaint

    def test_init_of_another_architecture(self, command, checkpoint: Path, tiny_config: Path, tmp_path: Path) -> None:
        arguments = [
            "--heads.boxes.fpn_channels",
            "8",
            "--backbone.name",
            "resnet50",
            "--init",
            checkpoint,
            "--out",
            tmp_path / "new",
        ]
        complaint = command("train", tiny_config, *arguments).complaint
        assert "resnet18" in complaint
        assert "resnet50" in complaint

    @pytest.mark.parametrize("way", [["evaluate"], ["train", "--resume"]])
    def test_another_label_map(self, way: list[str], command, checkpoint: Path, edit: Edit) -> None:
        def rename(coco: dict[str, Any]) -> None:
            coco["categories"][0]["name"] = "blue_cell"

        root = edit(rename)
        val = root / "annotations" / "instances_val.json"
        val.write_text(val.read_text().replace("red_cell", "blue_cell"))
        complaint = command(*way, checkpoint.parents[1], "--data.root", root).complaint
        assert "1=red_cell" in complaint
        assert "1=blue_cell" in complaint

    @pytest.mark.parametrize("way", [["evaluate"], ["train", "--resume"]])
    def test_another_image_spec(self, way: list[str], command, checkpoint: Path) -> None:
        complaint = command(*way, checkpoint.parents[1], "--image.high", "200").complaint
        assert "'high': None" in complaint
        assert "'high': 200.0" in complaint

    @pytest.mark.parametrize("way", [["evaluate"], ["predict"], ["train", "--resume"], ["train", "CONFIG", "--init"]])
    @pytest.mark.parametrize("damage", ["cut weights", "cut state", "other format"])
    def test_damaged(
        self, way: list[str], damage: str, command, checkpoint: Path, tiny_config: Path, tiny_data: Path, tmp_path: Path
    ) -> None:
        file = checkpoint / ("model.safetensors" if damage == "cut weights" else "state.json")
        if damage == "other format":
            file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        arguments = [*(str(tiny_config) if word == "CONFIG" else word for word in way), checkpoint.parents[1]]
        arguments += [tiny_data / "val"] if way == ["predict"] else []
        arguments += ["--out", tmp_path / "new"] if "--resume" not in way else []
        complaint = command(*arguments).complaint
        assert str(checkpoint) in complaint
        assert {"cut weights": "truncated", "cut state": "damaged", "other format": "format 99"}[damage] in complaint

    @pytest.mark.parametrize("way", [["evaluate"], ["train", "--resume"], ["train", "CONFIG", "--init"]])
    def test_pickle_is_never_opened(self, way: list[str], command, tiny_config: Path, tmp_path: Path) -> None:
        mark = tmp_path / "opened"

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (mark,))

        file = tmp_path / "weights.pt"
        file.write_bytes(pickle.dumps(Trap()))
        arguments = [str(tiny_config) if word == "CONFIG" else word for word in way]
        complaint = command(*arguments, file).complaint
        assert str(file) in complaint
        assert "never opened" in complaint
        assert not mark.exists()

    @pytest.mark.parametrize("option", ["--model.weights", "--backbone.weights"])
    def test_weights_that_run_code(self, option: str, command, tiny_config: Path, tmp_path: Path) -> None:
        mark = tmp_path / "opened"

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (mark,))

        torch.save({"weight": Trap()}, tmp_path / "weights.pth")
        arguments = ["--out", tmp_path / "run", option, tmp_path / "weights.pth"]
        assert "refused" in command("train", tiny_config, *arguments).complaint
        assert not mark.exists()

    def test_resume_takes_a_run_folder(self, command, checkpoint: Path) -> None:
        assert "give its run folder" in command("train", "--resume", checkpoint).complaint

    def test_resume_with_another_optimizer(self, command, checkpoint: Path) -> None:
        run = checkpoint.parents[1]
        assert "an epoch had" in command("train", "--resume", run, "--data.batch_size", "1").complaint
        complaint = command("train", "--resume", run, "--optimizer.name", "adamw").complaint
        assert "adamw" in complaint
        assert "sgd" in complaint


def test_predict_and_evaluate_arguments(command, trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert "no image there" in command("predict", trained, tmp_path / "nothing*.png").complaint
    assert "give a run folder" in command("evaluate").complaint
    annotations = tiny_data / "annotations" / "instances_val.json"
    (tmp_path / "results.json").write_text('[{"image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]')
    arguments = ["--annotations", annotations, "--results", tmp_path / "results.json"]
    assert "image id 77" in command("evaluate", *arguments).complaint
    (tmp_path / "broken.png").write_bytes(b"no image")
    complaint = command("predict", trained, tmp_path / "broken.png", "--out", tmp_path / "out").complaint
    assert "none of the 1 files" in complaint


@pytest.mark.parametrize(
    ("tool", "arguments", "held"),
    [
        ("train.py", ["configs/det/faster_rcnn_r50_fpn.py", "--data.root", "no/such/folder"], "no/such/folder"),
        ("train.py", ["configs/det/faster_rcnn_r50_fpn.py", "--optimizer.lrr", "1"], "--optimizer.lr?"),
        ("evaluate.py", ["no_run"], "no_run"),
    ],
)
def test_in_a_process_of_its_own(tool: str, arguments: list[str], held: str) -> None:
    command = [sys.executable, f"tools/{tool}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert held in done.stderr


def test_message_of_many_lines_becomes_one(command, monkeypatch: pytest.MonkeyPatch, tiny_config: Path) -> None:
    from backbones import UserError
    from tasks import training

    def fail(config: Experiment, **paths: Path | None) -> None:
        raise UserError("first\nsecond")

    monkeypatch.setattr(training, "train_experiment", fail)
    assert command("train", tiny_config).complaint == "first second"


@pytest.mark.parametrize(("exif", "upright"), [("auto", True), ("ignore", False)])
def test_predict_turns_images_as_training_did(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exif: Exif, upright: bool
) -> None:
    def load(folder: Path, prefer_best: bool = False) -> Checkpoint:
        checkpoint = load_checkpoint(folder, prefer_best=prefer_best)
        checkpoint.config.data.exif = exif
        return checkpoint

    monkeypatch.setattr("tasks.prediction.run_engine.load_checkpoint", load)
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (90, 60)).save(tmp_path / "turned.jpg", exif=tags)
    predict_files(PredictArguments(trained, (str(tmp_path / "turned.jpg"),), tmp_path / "out", device="cpu"))
    height, width = cv2.imread(str(tmp_path / "out" / "turned_00001.jpg")).shape[:2]
    assert (height > width) == upright
