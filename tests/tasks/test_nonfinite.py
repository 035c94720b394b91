"""The first value that is not finite has a name: planted at a layer of the network, forwards and backwards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tasks.checkpoint import load_checkpoint
from tasks.config import Experiment
from tasks.nonfinite import NonFiniteSearch

Written = Callable[[Experiment], Path]


class _Plant(torch.autograd.Function):
    """What passes stays as it is; the gradient becomes NaN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


class Layer(nn.Module):
    """A convolution that may spoil what it returns, or the gradient that comes through it."""

    def __init__(self, spoil: str) -> None:
        super().__init__()
        self.convolution, self.spoil = nn.Conv2d(2, 2, 1), spoil

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.convolution(x)
        if self.spoil == "output":
            x = x / torch.zeros(())
        if self.spoil == "gradient":
            x = _Plant.apply(x)
        return {"maps": x, "marks": torch.full((2,), -torch.inf)}


class Network(nn.Module):
    """Three layers and a loss."""

    def __init__(self, spoilt: int, spoil: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(spoil if number == spoilt else "") for number in range(3))
        self.spoil = spoil

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.layers:
            x = layer(x)["maps"].relu_()
        if self.spoil == "loss":
            return {"a/loss": (x - x).sum().log(), "b/loss": x.sum()}
        if self.spoil == "loss gradient":  # the root of 0 is finite, its slope is not
            return {"a/loss": (x - x).sum().sqrt(), "b/loss": x.sum()}
        return {"a/loss": x.sum()}


@pytest.mark.parametrize(
    ("spoilt", "spoil", "expected"),
    [
        (1, "", ""),
        (0, "output", "the output of layers.0"),
        (2, "output", "the output of layers.2"),
        (1, "gradient", "the gradient in layers.1"),
        (2, "gradient", "the gradient in layers.2"),
        (0, "loss", "the loss a/loss, made of finite outputs"),
        (0, "loss gradient", "the gradient in the loss a/loss"),
    ],
)
def test_names_the_first(spoilt: int, spoil: str, expected: str) -> None:
    torch.manual_seed(0)
    network = Network(spoilt, spoil)
    with NonFiniteSearch(network) as search:
        for _ in range(2):
            torch.stack(list(network(torch.rand(1, 2, 4, 4) + 1).values())).sum().backward()
    assert search.found == expected
    assert not any(module._forward_hooks for module in network.modules())


def test_a_weight_that_was_spoilt_before() -> None:
    network = Network(0, "")
    with torch.no_grad():
        network.layers[1].convolution.weight[0] = torch.inf
    with NonFiniteSearch(network) as search:
        network(torch.rand(1, 2, 4, 4))
    assert search.found == "the weight layers.1.convolution.weight, before the step"


def plant(monkeypatch: pytest.MonkeyPatch, name: str, file: str, way: str) -> None:
    """From now on the module `name` of every model spoils batches with an image of that name."""
    from tasks.model import Model

    forward = Model.forward

    def poisoned(self: Model, batch: Any) -> dict[str, Tensor]:
        def spoil(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output * float("nan") if way == "output" else _Plant.apply(output)

        there = any(one.endswith(file) for one in batch.files)
        # In front of the hooks that are there: they see what it returns.
        hook = self.get_submodule(name).register_forward_hook(spoil, prepend=True) if there else None
        losses = forward(self, batch)
        if hook:
            hook.remove()
        return losses

    monkeypatch.setattr(Model, "forward", poisoned)


LAYERS = {
    "boxes": "heads.boxes.roi_head.fc6",
    "labels": "backbone.layer3.1.conv2",
    "masks": "heads.masks.decoder.blocks.2.conv1",
}


@pytest.mark.parametrize(
    ("kind", "way", "passes", "optimizer"),
    [
        ("boxes", "output", 1, "sgd"),
        ("boxes", "gradient", 2, "sgd"),
        ("labels", "gradient", 1, "rmsprop"),
        ("masks", "output", 1, "adamw"),
    ],
)
def test_planted_at_a_layer(
    kind: str,
    way: str,
    passes: int,
    optimizer: str,
    command,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    written: Written,
    tmp_path: Path,
) -> None:
    """One line names layer, images and the folder; no checkpoint is spoilt; the step can be taken again."""
    config: Experiment = request.getfixturevalue("tiny" if kind == "boxes" else f"tiny_{kind}")
    config.runner.accumulate, config.optimizer.name = passes, optimizer  # type: ignore[assignment]
    config.optimizer.lr = 1e-3
    run, file = tmp_path / "run", written(config)
    with monkeypatch.context() as patch:
        plant(patch, LAYERS[kind], "train_0004.png", way)
        complaint = command("train", file, "--out", run, "--runner.save_every_steps", "1").complaint
        (folder,) = run.glob("nonfinite_step_*")
        step = int(folder.name.rsplit("_", 1)[1])
        again = command("replay", run, "--step", str(step), "--out", tmp_path / "replayed.json")
        assert again.code == 0, again.error
    assert f"is not finite at step {step}; its images are " in complaint
    assert complaint.startswith("the gradient" if way == "gradient" else kind)
    place = f"the {way} {'of' if way == 'output' else 'in'} {LAYERS[kind]}"
    for words in (place, "train_0004.png", str(folder), f"tools/replay.py {run} --step {step}"):
        assert words in complaint
    told = json.loads((folder / "step.json").read_text())
    assert (told["step"], told["first"], len(told["image_ids"])) == (step, place, 2)
    replayed = json.loads((tmp_path / "replayed.json").read_text())
    assert (replayed["first_not_finite"], replayed["files"]) == (place, told["files"])
    assert f"not finite: first in {place}" in again.out
    steps = sorted(int(one.name[5:]) for one in (run / "checkpoints").glob("step_*"))
    assert all(number < step for number in steps), "saved after it was spoilt"
    for where in ([run] if steps else []) + [folder / f"step_{step - 1:08d}"]:
        for part in ("model", "optimizer"):
            tensors = load_checkpoint(where, prefer_best=False).tensors(part)
            # The statistics of norms have seen the batch; they are no part of a step.
            spoilt = [name for name, one in tensors.items() if not torch.isfinite(one).all()]
            assert [name for name in spoilt if "running_" not in name or where == run] == []
    # Without what spoilt it, the same batch is a step like any other.
    fine = command("replay", run, "--step", str(step))
    assert "all values are finite" in fine.out


def test_weights_that_overflow_are_not_saved(
    command, tiny_labels: Experiment, written: Written, tmp_path: Path
) -> None:
    """The last step before a save may spoil the weights by its rate alone, with losses and gradients still finite."""
    tiny_labels.optimizer.name, tiny_labels.optimizer.lr = "sgd", 1e38
    tiny_labels.optimizer.momentum, tiny_labels.schedule.warmup_steps = 0.0, 0
    run = tmp_path / "run"
    complaint = command("train", written(tiny_labels), "--out", run, "--schedule.steps", "1",
                        "--schedule.milestones", "1").complaint  # fmt: skip
    assert "a weight is not finite after step 1, which is not saved" in complaint
    assert not list(run.glob("checkpoints/step_*"))
