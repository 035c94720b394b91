"""Groups, penalties and schedules, against autograd and torch's own schedulers."""

import math

import pytest
import torch

from tasks.config import Experiment, OptimizerConfig, ScheduleConfig
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.optim import add_l1_gradient, build_optimizer, learning_rate_factor, parameter_groups, set_learning_rate

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


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam", "rmsprop"])
def test_decay_reaches_only_what_it_should(name: str, model: Model) -> None:
    """With gradients of zero, all that moves a weight is its decay."""
    optimizer = build_optimizer(model, OptimizerConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.5}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    # RMSprop and Adam see the decay as a gradient; a weight of exactly zero has none.
    weights = {
        key for key, value in model.named_parameters() if value.requires_grad and value.ndim > 1 and before[key].any()
    }
    assert moved == weights


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam", "rmsprop"])
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
