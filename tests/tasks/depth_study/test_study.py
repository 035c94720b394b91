"""The depth study end to end on two small networks, and what its page says about given numbers."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tasks.config import Experiment
from tasks.depth_study.gradient_flow import LayerGradient, gradient_flow
from tasks.depth_study.measured import Measured
from tasks.depth_study.page import sentences, write_page
from tasks.model import build_model
from tests.tasks.steps import CLASSES, batch


def measured(network: str, depth: int, error: float, gradients: Sequence[float] = (1.0, 2.0)) -> Measured:
    layers = [LayerGradient(f"layer{index}", norm, norm / 10) for index, norm in enumerate(gradients)]
    losses = [(step, 2.0 / step) for step in (1, 2, 3)]
    return Measured(f"{network}{depth}", network, depth, 1000, error, error + 0.1, losses, layers, layers[::-1])


FOUND = [
    measured("plain", 56, 0.2, (1.0, 50.0)),
    measured("plain", 20, 0.1),
    measured("residual", 20, 0.1),
    measured("residual", 56, 0.05),
    measured("highway", 19, 0.15),
]


@pytest.mark.slow
def test_two_networks_are_compared_and_a_second_call_goes_on(
    command, tiny_labels: Experiment, written, tmp_path: Path
) -> None:
    tiny_labels.backbone.norm = None
    arguments = [written(tiny_labels), "--out", tmp_path / "study", "--networks", "plain18", "resnet18"]
    said = command("study_depth", *arguments)
    assert said.code == 0, said.error
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [(each["network"], each["family"], each["depth"]) for each in study] == [
        ("plain18", "plain", 18),
        ("resnet18", "resnet", 18),
    ]
    for each in study:
        assert 0 <= each["training_error"] <= 1
        assert len(each["at_start"]) == len(each["at_end"]) == 17
        assert each["at_start"] != each["at_end"]
        assert [step for step, _ in each["losses"]] == [1, 2, 3, 4, 5]
    page = (tmp_path / "study" / "study.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", ""), "the page needs nothing from elsewhere"
    # Trained already, so measured alone, to the same digits.
    assert command("study_depth", *arguments).code == 0
    assert json.loads((tmp_path / "study" / "study.json").read_text()) == study
    complaint = command("study_depth", *arguments, "--optimizer.lr", "0.5").complaint
    assert "plain18" in complaint
    assert "optimizer.lr is 0.5, was " in complaint
    assert "data.balance is 0.5, was 0.0" in command("study_depth", *arguments, "--data.balance", "0.5").complaint


def test_gradient_flow_is_that_of_the_loss(tiny_labels: Experiment) -> None:
    tiny_labels.backbone.norm = "frozen_bn"
    torch.manual_seed(0)
    model = build_model(tiny_labels, {"labels": CLASSES})
    layers = gradient_flow(model, batch())
    torch.stack(list(model(batch()).values())).sum().backward()
    convolutions = {layer.layer: layer for layer in layers}
    assert list(convolutions)[:2] == ["conv1", "layer1.0.conv1"]
    assert not any("downsample" in name for name in convolutions)
    for name, layer in convolutions.items():
        weight = model.backbone.get_submodule(name).weight
        assert layer.norm == pytest.approx(float(weight.grad.norm()), rel=1e-5)
        assert layer.relative == pytest.approx(float(weight.grad.norm() / weight.detach().norm()), rel=1e-5)


def test_the_page_says_which_way_the_error_went(tiny_labels: Experiment, tmp_path: Path) -> None:
    said = list(sentences(FOUND))
    assert any(line.startswith("plain: from 20 to 56") and "harder to train" in line for line in said)
    assert any(line.startswith("residual: from 20 to 56") and "better trained" in line for line in said)
    assert any(line.startswith("highway: with 19") and "15.0%" in line for line in said)
    assert any(line.startswith("plain56") and "50 times" in line for line in said)
    write_page(FOUND, tiny_labels, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<td>plain56</td><td>56</td>" in page


@pytest.mark.parametrize("networks", [("no_such_net20",), ("vgg",)])
def test_bad_names_are_told_before_any_training(
    networks: tuple[str, ...], command, tiny_labels: Experiment, written, tmp_path: Path
) -> None:
    arguments = [written(tiny_labels), "--out", tmp_path / "study", "--networks", "resnet18", *networks]
    assert networks[0] in command("study_depth", *arguments).complaint
    assert not (tmp_path / "study").exists()


def test_no_networks(command, tiny_labels: Experiment, written, tmp_path: Path) -> None:
    assert "networks is empty" in command("study_depth", written(tiny_labels), "--networks").complaint


def test_other_heads_are_refused(command, tiny_config: Path, tmp_path: Path) -> None:
    complaint = command("study_depth", tiny_config, "--out", tmp_path / "study", "--networks", "resnet18").complaint
    assert "classification head" in complaint
