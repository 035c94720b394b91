"""No false error on real data, with the configs that are made for it."""

from pathlib import Path

import pytest

from tasks.checking.checking import find
from tasks.experiment_file import read_experiment

ROOT = Path(__file__).resolve().parents[3]
# Config, data, weights, and what is truly wrong: two photographs of the COCO subset are in both of its splits; three
# X-rays of the validation split are equal, pixel by pixel, to ones of the training split.
CASES = {
    "bccd": ("det/bccd_faster_rcnn_r18_fpn.py", "bccd", "18", []),
    "bccd, one stage": ("det/bccd_yolo_r18.py", "bccd", "18", []),
    "coco": ("det/faster_rcnn_r50_fpn.py", "coco", "50", ["image-leaked"]),
    "nuclei": ("seg/unet_r18_nuclei.py", "nuclei", "18", []),
    "nuclei, instances": ("det/nuclei_mask_rcnn_r18_fpn.py", "nuclei", "18", []),
    "isbi2012": ("med/unet_r18_membranes.py", "isbi2012", "18", []),
    "pneumonia28": ("med/pneumonia_r18.py", "pneumonia28/pneumonia28.npz", "18", ["image-leaked"]),
}


OFTEN = ("bccd", "pneumonia28")  # the others by hand: each takes most of a minute
MARKED = [pytest.param(name, marks=pytest.mark.slow if name in OFTEN else pytest.mark.measurement) for name in CASES]


@pytest.mark.parametrize("name", MARKED)
def test_no_false_error(reference_data: Path, name: str) -> None:
    config_file, place, depth, true_errors = CASES[name]
    config = read_experiment(ROOT / "configs" / config_file).experiment
    config.data.root = reference_data / place
    config.backbone.weights = str(reference_data / "weights" / f"resnet{depth}_imagenet_pq.safetensors")
    config.runner.device = "cpu"
    outcome = find(config, ("data", "training"), 30)
    errors = [each.finding.kind.code for each in outcome.found if each.finding.kind.grade == "error"]
    assert errors == true_errors, [each.seen for each in outcome.found]
