"""The four tools on a trained run, as a person would call them."""

import json
import re
from pathlib import Path

import cv2
import pytest
import torch
import torchvision
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backbones import backbones
from tasks import inventory
from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment


def test_train_says_what_came_out_and_what_is_next(command, tiny_config: Path, tmp_path: Path) -> None:
    said = command("train", tiny_config, "--out", tmp_path / "run")
    for words in ("AP50", "red_cell", f"{tmp_path}/run/pictures", "tools/predict.py", "tools/evaluate.py", "--init"):
        assert words in said.out
    assert len(list((tmp_path / "run" / "pictures").glob("*.jpg"))) == 2
    shown = cv2.imread(str(next((tmp_path / "run" / "pictures").glob("*.jpg"))))
    assert shown is not None
    assert shown.shape[1] >= 2 * 64
    assert (tmp_path / "run" / "config.json").exists()


def test_evaluate_gives_what_training_measured(command, trained: Path, tmp_path: Path) -> None:
    said = command("evaluate", trained, "--out", tmp_path / "found.json")
    assert said.code == 0, said.error
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "found.json").read_text()) == logged[-1]["metrics"]


def test_predict_and_score_the_file(command, trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Its results, scored by pycocotools and by our own tool, are those of the evaluation, but for their rounding."""
    out = tmp_path / "out"
    said = command("predict", trained, tiny_data / "val", "--out", out)
    assert said.code == 0, said.error
    assert len(list(out.glob("*.jpg"))) == 4
    annotations = tiny_data / "annotations" / "instances_val.json"
    ids = {image["file_name"]: image["id"] for image in json.loads(annotations.read_text())["images"]}
    results = json.loads((out / "predictions.json").read_text())
    assert results
    for result in results:
        result["image_id"] = ids[Path(result.pop("file_name")).name]
    (tmp_path / "results.json").write_text(json.dumps(results))
    arguments = ["--annotations", annotations, "--results", tmp_path / "results.json", "--out", tmp_path / "own.json"]
    assert command("evaluate", *arguments).code == 0
    own = json.loads((tmp_path / "own.json").read_text())
    truth = COCO(str(annotations))
    reference = COCOeval(truth, truth.loadRes(results), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    assert list(own.values())[:12] == pytest.approx(reference.stats.tolist(), abs=1e-9)
    logged = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    assert own["bbox/AP50"] == pytest.approx(logged["boxes/AP50"], abs=0.02)


def test_instances_from_training_to_results(
    command, tiny_instances: Experiment, written, tiny_data: Path, tmp_path: Path
) -> None:
    """Trained, evaluated again, predicted; what predict writes is what evaluate has scored."""
    run, out = tmp_path / "run", tmp_path / "out"
    said = command("train", written(tiny_instances), "--out", run)
    assert said.code == 0, said.error
    logged = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    assert {"instances/segm AP", "instances/segm AP/red_cell", "instances/AP", "instances/AP/red_cell"} <= logged.keys()
    assert json.loads((run / "checkpoints" / "best.json").read_text())["metric"] == "instances/segm AP"
    said = command("evaluate", run, "--out", tmp_path / "again.json")
    assert said.code == 0, said.error
    assert json.loads((tmp_path / "again.json").read_text()) == pytest.approx(logged)
    said = command("predict", run, tiny_data / "val", "--out", out)
    assert said.code == 0, said.error
    results = json.loads((out / "predictions.json").read_text())
    assert len(results) > 4
    assert all(row["segmentation"]["size"] == [64, 64] for row in results)
    assert len(list(out.glob("*.jpg"))) == 4
    arguments = ["--kind", "segm", "--annotations", tiny_data / "annotations" / "instances_val.json"]
    said = command("evaluate", "--results", out / "predictions.json", *arguments, "--out", tmp_path / "file.json")
    assert said.code == 0, said.error
    scored = json.loads((tmp_path / "file.json").read_text())
    assert scored["segm/AP"] == pytest.approx(logged["instances/segm AP"], abs=1e-3)


def test_predict_leaves_out_what_it_cannot_read(command, trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    whole = sorted((tiny_data / "val").glob("*.png"))[0]
    said = command("predict", trained, tmp_path / "*.png", whole, "--out", tmp_path / "out")
    assert said.code == 1, said.error
    assert re.search(r"left out: \S+broken\.png", said.out)
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 1


def test_init_with_the_same_and_with_other_classes(command, trained: Path, edit, tmp_path: Path) -> None:
    config = trained / "config.json"
    said = command("train", config, "--init", trained, "--out", tmp_path / "same", "--optimizer.lr", "1e-12")
    assert said.code == 0, said.error
    count = re.search(r"weights: (\d+) of (\d+) tensors", said.out)
    assert count
    assert count[1] == count[2]
    before, after = (load_checkpoint(run, prefer_best=False).tensors("model") for run in (trained, tmp_path / "same"))
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)

    def rename(coco: dict[str, list[dict[str, object]]]) -> None:
        coco["categories"][0]["name"] = "blue_cell"

    root = edit(rename)
    val = root / "annotations" / "instances_val.json"
    val.write_text(val.read_text().replace("red_cell", "blue_cell"))
    arguments = ["--data.root", root, "--out", tmp_path / "other", "--optimizer.lr", "1e-12"]
    said = command("train", config, "--init", trained, *arguments)
    assert said.code == 0, said.error
    assert "4 start anew (heads.boxes.roi_head.cls_score.weight" in said.out
    other = load_checkpoint(tmp_path / "other", prefer_best=False).tensors("model")
    for name, tensor in before.items():
        anew = name.startswith(("heads.boxes.roi_head.cls_score.", "heads.boxes.roi_head.bbox_pred."))
        assert torch.allclose(tensor, other[name], atol=1e-7) != anew, name


def test_torchvision_detector_by_name(command, tiny: Experiment, tmp_path: Path) -> None:
    """A whole detector of torchvision's; after no training to speak of, its weights are found in the checkpoint."""
    torch.manual_seed(0)
    reference = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    torch.save(reference.state_dict(), tmp_path / "detector.pth")
    tiny.backbone.name, tiny.backbone.norm = "resnet50", "frozen_bn"
    tiny.heads["boxes"] = type(tiny.heads["boxes"])(rpn_post_nms=20, roi_samples=8, rpn_post_nms_test=20)
    tiny.data.batch_size, tiny.optimizer.lr = 10, 1e-12
    (tmp_path / "config.json").write_text(tiny.model_dump_json())
    arguments = ["--model.weights", tmp_path / "detector.pth", "--out", tmp_path / "run"]
    said = command("train", tmp_path / "config.json", *arguments)
    assert said.code == 0, said.error
    assert f"the whole model from {tmp_path / 'detector.pth'}" in said.out
    found = load_checkpoint(tmp_path / "run", prefer_best=False).tensors("model")
    own = reference.state_dict()
    pairs = {
        "backbone.layer3.2.conv2.weight": "backbone.body.layer3.2.conv2.weight",
        "heads.boxes.fpn.lateral.c4.weight": "backbone.fpn.inner_blocks.2.0.weight",
        "heads.boxes.rpn.conv.weight": "rpn.head.conv.0.0.weight",
        "heads.boxes.roi_head.cls_score.weight": "roi_heads.box_predictor.cls_score.weight",
    }
    for name, theirs in pairs.items():
        assert torch.allclose(found[name], own[theirs], atol=1e-7), name
    # Another architecture is refused.
    said = command("train", tmp_path / "config.json", *arguments[:2], "--backbone.name", "resnet18")
    assert (
        "the Faster or Mask R-CNN with FPN of torchvision, Detectron2 or MMDetection, of this backbone"
        in said.complaint
    )


def test_list_counts_as_torchvision_publishes(command) -> None:
    said = command("list", "resnet5?")
    assert said.code == 0, said.error
    weights = torchvision.models.get_model_weights("resnet50").DEFAULT.meta
    (row,) = [line for line in said.out.splitlines() if "resnet50" in line]
    parameters, adds = re.findall(r"([\d.]+) [MG]", row)
    fully_connected = 2048 * 1000 + 1000
    assert float(parameters) == pytest.approx((weights["num_params"] - fully_connected) / 1e6, abs=0.01)
    assert float(adds) == pytest.approx(weights["_ops"] - fully_connected / 1e9, abs=0.01)
    assert "c5 2048/32" in row


def test_list_takes_patterns_of_timms_names(command) -> None:
    said = command("list", "timm/convnext_att?")
    assert said.code == 0, said.error
    (row,) = [line for line in said.out.splitlines() if "timm/convnext_atto" in line]
    assert "c2 40/4, c3 80/8, c4 160/16, c5 320/32" in row
    assert "timm/vit_tiny_patch16_224" in command("list", "timm/vit_*").out
    assert "cannot be a backbone" in command("list", "timm/inception_v3").out
    assert "'resnetx' matches no backbone; give all, backbones," in command("list", "resnetx").complaint


@pytest.mark.slow
def test_list_names_all_backbones(command) -> None:
    said = command("list", "backbones")
    assert said.code == 0, said.error
    assert "any network of timm's is a backbone as well, as timm/NAME" in said.out
    assert set(backbones.names()) <= set(re.findall(r"\w+", said.out))


def test_list_names_heads_and_configs(command, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each is run once to be measured, the large ones for seconds. tests/tasks/test_model.py builds them all.
    some = [file for file in inventory.config_files() if file.stem in ("imagenet_r50", "cells_r18")]
    monkeypatch.setattr(inventory, "config_files", lambda: some)
    heads = command("list", "heads").out
    assert all(name in heads for name in ("faster_rcnn", "mask_rcnn", "cascade_rcnn"))
    configs = command("list", "configs").out
    assert "configs/multi/cells_r18.py" in configs
    (row,) = [line for line in configs.splitlines() if "configs/cls/imagenet_r50.py" in line]
    assert "4.09 G at 224 px" in row
    assert command("list", "nonsense").code == 2
