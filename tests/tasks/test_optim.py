"""Groups, penalties and schedules, against autograd and torch's own schedulers; LAMB against timm's."""

import math
from pathlib import Path
from typing import get_args

import pytest
import timm.optim
import torch
from torch.optim import lr_scheduler

from tasks.config import Experiment, OptimizerConfig, ScheduleConfig
from tasks.experiment_file import read_experiment
from tasks.label_map import LabelMap
from tasks.lamb import Lamb
from tasks.model import Model, build_model
from tasks.optim import (
    add_l1_gradient,
    build_optimizer,
    count_steps,
    learning_rate_factor,
    parameter_groups,
    set_learning_rate,
)
from tasks.optimizer_state import optimizer_tensors, restore_optimizer

OPTIMIZERS = get_args(OptimizerConfig.model_fields["name"].annotation)
LABELS = {"boxes": LabelMap(ids=(1, 2), names=("a", "b"))}


@pytest.fixture
def model(tiny: Experiment) -> Model:
    tiny.backbone.norm, tiny.backbone.frozen_stages = "bn", 2
    return build_model(tiny, LABELS)


def test_groups(model: Model) -> None:
    groups = parameter_groups(model, OptimizerConfig(lr=0.1, weight_decay=0.01, l1=0.001, backbone_lr_factor=0.5))
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = [names[parameter] for group in groups for parameter in group["params"]]
    assert sorted(seen) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    assert not any(name.startswith(("backbone.conv1", "backbone.layer1")) for name in seen), "frozen"
    for group in groups:
        for parameter in group["params"]:
            name = names[parameter]
            assert group["base_lr"] == (0.05 if name.startswith("backbone.") else 0.1), name
            plain = name.endswith(".bias") or ".bn" in name or "downsample.1" in name
            assert (group["weight_decay"], group["l1"]) == ((0, 0) if plain else (0.01, 0.001)), name


def test_layer_decay(tiny: Experiment) -> None:
    """The rate of a stage is that of the next one times the decay, the last one's that of the heads times it."""
    model = build_model(tiny, LABELS)
    groups = parameter_groups(model, OptimizerConfig(lr=0.1, backbone_lr_factor=0.5, layer_decay=0.7))
    found = {parameter: group["base_lr"] for group in groups for parameter in group["params"]}
    powers = {"layer4.": 1, "layer3.": 2, "layer2.": 3, "layer1.": 4, "conv1.": 5, "bn1.": 5}
    for name, parameter in model.named_parameters():
        own = name.removeprefix("backbone.")
        power = next((power for prefix, power in powers.items() if own.startswith(prefix)), 0)
        assert (power == 0) == name.startswith("heads."), name
        assert found[parameter] == pytest.approx(0.1 * (0.5 if power else 1) * 0.7**power, rel=1e-12), name


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_reaches_only_what_it_should(name: str, norms: bool, model: Model) -> None:
    """With gradients of zero, all that moves a weight is its decay."""
    fields = {"name": name, "lr": 0.1, "weight_decay": 0.5, "decay_norms": norms}
    optimizer = build_optimizer(model, OptimizerConfig.model_validate(fields))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    # RMSprop and Adam see the decay as a gradient; a weight of exactly zero has none.
    weights = {
        key
        for key, value in model.named_parameters()
        if value.requires_grad and (value.ndim > 1 or norms) and before[key].any()
    }
    assert norms == any(".bn" in key for key in weights)
    assert moved == weights


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_gradient_at_a_later_step(name: str, model: Model) -> None:
    """The backbone may be frozen in the beginning; it then moves as if the optimizer were new."""
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.1})
    optimizer = build_optimizer(model, config)
    late = [p for p in model.backbone.parameters() if p.requires_grad]
    for parameter in model.heads.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [parameter.clone() for parameter in late]
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(late, before, strict=True))
    for parameter in late:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    after = [parameter.detach().clone() for parameter in late]
    for parameter, value in zip(late, before, strict=True):
        parameter.data.copy_(value)
    build_optimizer(model, config).step()
    assert all(torch.equal(*pair) for pair in zip(late, after, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(after, before, strict=True))


def test_l1_gradient_is_that_of_the_penalty(model: Model) -> None:
    optimizer = build_optimizer(model, OptimizerConfig(l1=0.03))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(0)
    own = {name: torch.randn(p.shape, generator=generator) for name, p in trained.items()}
    penalty = 0.03 * sum(p.abs().sum() for p in trained.values() if p.ndim > 1)
    loss = penalty + sum((own[name] * p).sum() for name, p in trained.items())
    expected = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
    for name, parameter in trained.items():
        parameter.grad = own[name].clone()
    add_l1_gradient(optimizer)
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, expected[name])


def lamb_weights(seed: int) -> list[torch.nn.Parameter]:
    """Of several sizes and dimensions, one of them zero."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(8, 3, 3, 3), (5, 8), (8,), (1,), (4, 4)]
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.3) for shape in shapes]
    weights[-1].data.zero_()
    return weights


def give_gradients(weights: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator) * 0.01


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.95)])
def test_lamb_is_timms(betas: tuple[float, float]) -> None:
    """With and without decay, which decides about the length of the step; clipping is not its business here."""
    ours, theirs = lamb_weights(0), lamb_weights(0)
    mine, reference = (
        kind([{"params": own[:3], "weight_decay": 0.02}, {"params": own[3:], "weight_decay": 0.0}], **options)
        for own, kind, options in (
            (ours, Lamb, {"lr": 0.005, "betas": betas}),
            (theirs, timm.optim.Lamb, {"lr": 0.005, "betas": betas, "max_grad_norm": None}),
        )
    )
    for step in range(30):
        for weights, optimizer in ((ours, mine), (theirs, reference)):
            give_gradients(weights, step)
            for group in optimizer.param_groups:
                group["lr"] = 0.005 * (1 + step % 3)
            optimizer.step()
    for own, other, start in zip(ours, theirs, lamb_weights(0), strict=True):
        torch.testing.assert_close(own, other, rtol=2e-5, atol=1e-7)
        assert (own - start).abs().max() > 0.005


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_as_if_it_had_never_stopped(name: str, model: Model) -> None:
    """Bit for bit, also for weights that began later than others."""
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.01, "weight_decay": 0.02})
    names = {parameter: name for name, parameter in model.named_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(model, config)
    for step in range(4):
        give_gradients(trained if step > 1 else trained[10:], step)
        optimizer.step()
    state = {key: value.clone() for key, value in optimizer_tensors(optimizer, names).items()}
    weights = [parameter.detach().clone() for parameter in trained]
    ends = []
    for again in (False, True):
        if again:
            for parameter, value in zip(trained, weights, strict=True):
                parameter.data.copy_(value)
            optimizer = build_optimizer(model, config)
            restore_optimizer(optimizer, names, state)
        give_gradients(trained, 9)
        optimizer.step()
        ends.append([parameter.detach().clone() for parameter in trained])
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(ends[0], weights, strict=True))


STEPS = 7  # an epoch


def rates(scheduler: torch.optim.lr_scheduler.LRScheduler, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.fixture
def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_milestones(sgd: torch.optim.SGD) -> None:
    config = ScheduleConfig(epochs=6, milestones=(2, 5), gamma=0.3, warmup_steps=0)
    expected = rates(torch.optim.lr_scheduler.MultiStepLR(sgd, [2 * STEPS, 5 * STEPS], 0.3), 6 * STEPS)
    assert [learning_rate_factor(step, STEPS, config) for step in range(6 * STEPS)] == pytest.approx(expected)


def test_cosine(sgd: torch.optim.SGD) -> None:
    config = ScheduleConfig(epochs=6, policy="cosine", final_lr_factor=0.1, warmup_steps=0)
    expected = rates(torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 6 * STEPS, eta_min=0.1), 6 * STEPS)
    assert [learning_rate_factor(step, STEPS, config) for step in range(6 * STEPS)] == pytest.approx(expected)


def test_polynomial(sgd: torch.optim.SGD) -> None:
    config = ScheduleConfig(epochs=6, policy="polynomial", power=0.9, warmup_steps=0)
    expected = rates(torch.optim.lr_scheduler.PolynomialLR(sgd, 6 * STEPS, power=0.9), 6 * STEPS)
    assert [learning_rate_factor(step, STEPS, config) for step in range(6 * STEPS)] == pytest.approx(expected)


def test_constant_with_warm_up(sgd: torch.optim.SGD) -> None:
    config = ScheduleConfig(epochs=2, policy="constant", warmup_steps=10)
    # LinearLR reaches its end after total_iters steps; ours has risen by a tenth at the first one already.
    expected = rates(torch.optim.lr_scheduler.LinearLR(sgd, 1 / 10, 1.0, total_iters=9), 2 * STEPS)
    assert [learning_rate_factor(step, STEPS, config) for step in range(2 * STEPS)] == pytest.approx(expected)


def factors(config: ScheduleConfig, steps: list[int]) -> list[float]:
    return [learning_rate_factor(step, STEPS, config) for step in steps]


def test_steps_in_place_of_epochs(sgd: torch.optim.SGD) -> None:
    """The recipe of CIFAR, a thousandth as long: an epoch has 7 steps and does not matter."""
    config = ScheduleConfig(epochs=1, steps=64, milestones=(32, 48), warmup_steps=0)
    assert count_steps(STEPS, config) == 64
    assert factors(config, list(range(64))) == pytest.approx(rates(lr_scheduler.MultiStepLR(sgd, [32, 48], 0.1), 64))


@pytest.mark.parametrize("policy", ["cosine", "polynomial"])
def test_a_curve_over_steps(policy: str, sgd: torch.optim.SGD) -> None:
    fields = {"epochs": 1, "steps": 50, "policy": policy, "power": 2, "warmup_steps": 0}
    theirs = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(sgd, 50),
        "polynomial": lambda: lr_scheduler.PolynomialLR(sgd, 50, power=2),
    }[policy]()
    assert factors(ScheduleConfig.model_validate(fields), list(range(50))) == pytest.approx(rates(theirs, 50))


def test_published_iterations() -> None:
    """He et al. 2015, section 4.2: the rate is 0.1, and 0.01 for the first 400 iterations of ResNet-110."""
    config = read_experiment(Path("configs/cls/cifar_resnet110.py")).experiment
    assert count_steps(390, config.schedule) == 64000
    at = [0, 399, 400, 31999, 32000, 47999, 48000, 63999]
    expected = [0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    rates = [config.optimizer.lr * factor for factor in factors(config.schedule, at)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_that_does_not_rise(sgd: torch.optim.SGD) -> None:
    config = ScheduleConfig(epochs=2, policy="constant", warmup_steps=5, warmup_factor=0.1)
    expected = rates(lr_scheduler.ConstantLR(sgd, 0.1, total_iters=5), 2 * STEPS)
    assert factors(config, list(range(2 * STEPS))) == pytest.approx(expected)


@pytest.mark.parametrize("policy", ["milestones", "cosine", "polynomial", "constant"])
def test_rate_is_never_negative_or_complex(policy: str) -> None:
    config = ScheduleConfig.model_validate({"epochs": 3, "policy": policy, "warmup_steps": 2})
    for step in range(3 * STEPS):
        factor = learning_rate_factor(step, STEPS, config)
        assert isinstance(factor, float)
        assert 0 <= factor <= 1
        assert math.isfinite(factor)


def test_set_learning_rate(model: Model) -> None:
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1, backbone_lr_factor=0.5))
    set_learning_rate(optimizer, 0.2)
    found = sorted(group["lr"] for group in optimizer.param_groups)
    assert found == pytest.approx([0.01] * 2 + [0.02] * 2)
