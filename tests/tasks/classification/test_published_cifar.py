"""Published CIFAR ResNets classify real images as their authors' code does, all the way from the file to the score.

4,000 of the images that they were trained on, so the score tells whether all is as it was, not how good they are.
"""

from pathlib import Path

import pytest

from tasks.config import ClassificationConfig, Experiment
from tasks.data.formats.npz_arrays import NpzArrays
from tasks.device import build_accelerator
from tasks.evaluation import Evaluator
from tasks.inference import Predictor
from tasks.initial_weights import load_initial_weights
from tasks.model import build_model
from tasks.progress import Reporter


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "correct"), [(20, 3992), (56, 4000)])
def test_published_networks_classify_their_images(depth: int, correct: int, reference_data: Path) -> None:
    folder = reference_data / "cifar10"
    config = Experiment.model_validate(
        {
            "backbone": {"name": f"cifar_resnet{depth}"},
            "heads": {"labels": ClassificationConfig()},
            "model": {"weights": folder / f"resnet{depth}_optionA.safetensors"},
            "data": {"root": folder / "cifar10_train4000.npz", "size": (32, 32), "batch_size": 100, "workers": 0},
            "runner": {"pictures": 0, "device": "cpu", "precision": "fp32"},
        }
    )
    images = NpzArrays(config.data.root, config.data).read("all")
    assert len(images) == 4000
    labels = {"labels": images.label_map}
    model = build_model(config, labels)
    (said,) = load_initial_weights(model, config, labels, init=None)
    assert "missing" not in said
    evaluator = Evaluator(config, images, labels, build_accelerator(config.runner), model.divisor)
    metrics = evaluator.evaluate(Predictor([model], config.inference), Reporter(False))
    assert round(metrics["labels/accuracy"] * 4000) == correct
