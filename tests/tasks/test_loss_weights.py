"""Weights of heads: given ones scale, learned ones follow the formula of Kendall et al. and find its optimum."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from backbones import UserError
from heads import Targets
from tasks.config import Experiment, LossesConfig
from tasks.loss_weights import LossWeights, annotated
from tasks.model import build_model
from tasks.optim import parameter_groups
from tests.tasks.steps import CLASSES, batch

LABELS = {"boxes": CLASSES, "masks": CLASSES}


def losses(config: Experiment) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found: dict[str, Tensor] = build_model(config, LABELS).eval()(batch())
    return found


def test_given_weights_scale_the_losses_of_their_head(tiny_joint: Experiment) -> None:
    plain = losses(tiny_joint)
    tiny_joint.losses.weights = {"masks": 0.25}
    weighted = losses(tiny_joint)
    assert weighted.keys() == plain.keys()
    for name, loss in plain.items():
        factor = 0.25 if name.startswith("masks/") else 1.0
        torch.testing.assert_close(weighted[name], factor * loss, rtol=1e-6, atol=0)


def test_weights_of_one_are_no_part_of_the_model(tiny_joint: Experiment) -> None:
    tiny_joint.losses.weights = {"masks": 1.0}
    model = build_model(tiny_joint, LABELS)
    assert model.loss_weights is None
    assert not any("loss_weights" in name for name in model.state_dict())


def test_learned_weights_are_the_formula(tiny_joint: Experiment) -> None:
    plain = losses(tiny_joint)
    tiny_joint.losses = LossesConfig(learned=True, weights={"masks": 0.25})
    weighted = losses(tiny_joint)
    log_variance = {"boxes": 0.0, "masks": math.log(4)}
    assert weighted.keys() == {*plain, "boxes/uncertainty", "masks/uncertainty"}
    for name, loss in plain.items():
        factor = math.exp(-log_variance[name.split("/")[0]])
        torch.testing.assert_close(weighted[name], factor * loss, rtol=1e-6, atol=0)
    for head, value in log_variance.items():
        torch.testing.assert_close(weighted[f"{head}/uncertainty"], torch.tensor(value / 2))


def test_the_optimum_of_a_learned_weight() -> None:
    """At constant losses L, exp(-s) L + s / 2 is least where the factor is 1 / (2 L)."""
    weights = LossWeights({"a": 1.0, "b": 1.0}, learned=True)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.05)
    one = torch.tensor(1.0)
    for _ in range(400):
        optimizer.zero_grad()
        total = [
            *weights("a", {"x": 0.1 * one, "y": 0.3 * one}, one).values(),
            *weights("b", {"z": 7 * one}, one).values(),
        ]
        torch.stack(total).sum().backward()
        optimizer.step()
    assert weights.current() == pytest.approx({"a": 1 / 0.8, "b": 1 / 14}, rel=1e-2)


def test_a_batch_without_targets_teaches_no_weight(tiny_joint: Experiment) -> None:
    tiny_joint.losses.learned = True
    model = build_model(tiny_joint, LABELS).train()
    own = batch()
    assert own.targets.masks is not None
    masks = replace(own.targets.masks, annotated=torch.zeros(2, dtype=torch.bool))
    own = replace(own, targets=replace(own.targets, masks=masks))
    torch.stack(list(model(own).values())).sum().backward()
    assert model.loss_weights is not None
    assert model.loss_weights.log_variances is not None
    assert model.loss_weights.log_variances["masks"].grad == 0
    assert model.loss_weights.log_variances["boxes"].grad != 0
    # And where there is no target of a kind at all.
    assert annotated(Targets(own.targets.seeds), "masks") == 0
    assert annotated(own.targets, "boxes") == 2


def test_they_learn_at_their_own_rate_without_decay(tiny_joint: Experiment) -> None:
    tiny_joint.losses.learned = True
    model = build_model(tiny_joint, LABELS)
    assert model.loss_weights is not None
    own = set(model.loss_weights.parameters())
    (group,) = (g for g in parameter_groups(model, tiny_joint.optimizer, 7.0) if own & set(g["params"]))
    assert set(group["params"]) == own
    assert group["base_lr"] == pytest.approx(7 * tiny_joint.optimizer.lr)
    assert group["weight_decay"] == 0


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (LossesConfig(weights={"bxes": 1.0}), ["losses.weights", "'bxes'", "boxes, masks"]),
        (LossesConfig(weights={"boxes": 0.0}, learned=True), ["losses.weights.boxes is 0", "above 0"]),
    ],
)
def test_mistakes(losses: LossesConfig, words: list[str], tiny_joint: Experiment) -> None:
    tiny_joint.losses = losses
    with pytest.raises(UserError) as caught:
        build_model(tiny_joint, LABELS)
    assert all(word in str(caught.value) for word in words), caught.value


def test_they_are_logged_and_saved(tiny_joint: Experiment, command, written, tmp_path: Path) -> None:
    tiny_joint.losses.learned = True
    run = tmp_path / "run"
    said = command("train", written(tiny_joint), "--out", run, "--losses.weights", "boxes", "2", "masks", "1")
    assert said.code == 0, said.error
    logged = [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "losses" in line]
    assert all(line["loss_weights"].keys() == {"boxes", "masks"} for line in logged)
    assert logged[0]["loss_weights"]["boxes"] == pytest.approx(2, rel=0.1)
    saved = load_file(max((run / "checkpoints").glob("step_*")) / "model.safetensors")
    factors = {name: math.exp(-float(saved[f"loss_weights.log_variances.{name}"])) for name in ("boxes", "masks")}
    assert factors == pytest.approx(logged[-1]["loss_weights"])
    assert factors["boxes"] != pytest.approx(2, rel=1e-4)
    # The run goes on, and is used, with them.
    assert command("evaluate", run).code == 0
    said = command("evaluate", run, "--only", "masks")
    assert said.code == 0, said.error
    assert "AP50" not in said.out
