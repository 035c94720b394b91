from typing import Any

import pytest
import timm.loss
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from backbones import FeatureSpec, UserError, build_backbone
from backbones.weights_file import WeightsFile
from heads import Classification, ImageSizes, LabelTargets, Targets, heads
from heads.classifier_layouts import split_classifier
from tasks.config import ClassificationConfig

FEATURES = {"c4": FeatureSpec(6, 16), "c5": FeatureSpec(8, 32)}
B = 6


def maps(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"c4": torch.rand(B, 6, 8, 8, generator=generator), "c5": torch.rand(B, 8, 4, 4, generator=generator)}


def sizes(count: int = B) -> ImageSizes:
    size = torch.full((count, 2), 128)
    return ImageSizes((128, 128), size, size)


def targets(values: Tensor, annotated: Tensor | None = None) -> Targets:
    known = torch.ones(len(values), dtype=torch.bool) if annotated is None else annotated
    return Targets(torch.arange(len(values)), labels=LabelTargets(values, known))


def head(classes: int = 4, **options: Any) -> Classification:
    torch.manual_seed(0)
    return Classification(FEATURES, classes, **options)


def logits(of: Classification) -> Tensor:
    return of.linear(maps()["c5"].mean(dim=(2, 3)))


def shares(classes: int = 4) -> Tensor:
    return F.one_hot(torch.arange(B) % classes, classes).float()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_classifier(name: str) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(num_classes=12)
    for module in reference.modules():  # else every variance is 1 and every mean 0
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    backbone = build_backbone(name)
    parts = split_classifier(WeightsFile(reference.state_dict()), backbone.state_dict())
    ours = Classification(backbone.features, 12)
    backbone.load_state_dict(parts.backbone)
    ours.load_state_dict(parts.head)
    images = torch.rand(2, 3, 96, 64)
    size = torch.tensor([[96, 64]] * 2)
    with torch.no_grad():
        expected = reference.eval()(images).softmax(dim=1)
        found = ours.eval().scores(backbone.eval()(images), ImageSizes((96, 64), size, size))
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_state_dict_without_classifier() -> None:
    with pytest.raises(UserError, match=r"net\.pth: no classifier in it"):
        split_classifier(WeightsFile({"fc.weight": torch.zeros(1)}), [], "net.pth")


def test_registered_with_the_fields_of_its_config() -> None:
    built = heads.build("classification", FEATURES, 3, **ClassificationConfig().factory_options())
    assert isinstance(built, Classification)
    assert (built.target, built.level, built.pool.kind) == ("single", "c5", "average")


@pytest.mark.parametrize(
    ("target", "probabilities"),
    [("single", lambda x: x.softmax(1)), ("multi", torch.sigmoid), ("regression", lambda x: x)],
)
def test_scores(target: Any, probabilities: Any) -> None:
    ours = head(target=target)
    found = ours.scores(maps(), sizes())
    torch.testing.assert_close(found, probabilities(logits(ours)))
    predicted = ours.predict(maps(), sizes())
    assert [p.target for p in predicted] == [target] * B
    assert torch.equal(torch.stack([p.scores for p in predicted]), found)


def test_level_and_hidden_layers() -> None:
    ours = head(level="c4", hidden_channels=(5, 7), pooling="max")
    hidden = ours.hidden[1](ours.hidden[0](maps()["c4"].amax(dim=(2, 3))).relu()).relu()
    torch.testing.assert_close(ours.scores(maps(), sizes()), ours.linear(hidden).softmax(1))


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({}, "cross_entropy", lambda x, t: F.cross_entropy(x, t)),
        (
            {"class_weights": (1.0, 2.0, 0.5, 0.1), "label_smoothing": 0.2},
            "cross_entropy",
            lambda x, t: F.cross_entropy(x, t, torch.tensor([1, 2, 0.5, 0.1]), label_smoothing=0.2),
        ),
        ({"target": "multi"}, "bce", lambda x, t: F.binary_cross_entropy_with_logits(x, t)),
        (
            {"target": "multi", "loss": "focal", "focal_gamma": 1.5},
            "focal",
            lambda x, t: torchvision.ops.sigmoid_focal_loss(x, t, -1, 1.5, "mean"),
        ),
        (
            {"loss": "bce", "class_weights": (1.0, 2.0, 0.5, 0.1)},
            "bce",
            lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor([1, 2, 0.5, 0.1])),
        ),
        ({"loss": "bce", "target_threshold": 0.2}, "bce", timm.loss.BinaryCrossEntropy(0.0, 0.2)),
        ({"target": "multi", "target_threshold": 0.2}, "bce", timm.loss.BinaryCrossEntropy(0.0, 0.2)),
        ({"target": "regression"}, "smooth_l1", lambda x, t: F.smooth_l1_loss(x, t)),
        ({"target": "regression", "loss": "mse"}, "mse", lambda x, t: F.mse_loss(x, t)),
    ],
)
def test_loss_is_the_mean_over_images(options: dict[str, Any], name: str, expected: Any) -> None:
    ours = head(**options)
    found = ours.loss(maps(), sizes(), targets(shares()))
    assert list(found) == [f"loss_{name}"]
    torch.testing.assert_close(found[f"loss_{name}"], expected(logits(ours), shares()))


def test_smoothed_binary_labels_of_one_class_are_timms() -> None:
    labels = torch.arange(B) % 4
    ours = head(loss="bce", label_smoothing=0.1)
    (found,) = ours.loss(maps(), sizes(), targets(F.one_hot(labels, 4).float())).values()
    torch.testing.assert_close(found, timm.loss.BinaryCrossEntropy(0.1)(logits(ours), labels))


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_images_without_labels_add_nothing(target: Any) -> None:
    ours = head(target=target)
    known = torch.tensor([True, False, True, False, False, True])
    values = shares()
    values[~known] = torch.nan
    found = ours.loss(maps(), sizes(), targets(values, known))
    (some,) = found.values()
    few = {name: level[known] for name, level in maps().items()}
    (expected,) = ours.loss(few, sizes(3), targets(shares()[known])).values()
    torch.testing.assert_close(some, expected)
    some.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in ours.parameters())
    for nothing in (targets(values, torch.zeros(B, dtype=torch.bool)), Targets(torch.arange(B))):
        found = ours.loss(maps(), sizes(), nothing)
        assert [value.item() for value in found.values()] == [0.0]
        sum(found.values()).backward()


def test_standardised_numbers_travel_with_the_weights() -> None:
    ours = head(2, target="regression", value_mean=(100.0, -3.0), value_std=(20.0, 0.5))
    mean, std = torch.tensor([100.0, -3.0]), torch.tensor([20.0, 0.5])
    torch.testing.assert_close(ours.scores(maps(), sizes()), logits(ours) * std + mean)
    values = torch.tensor([[90.0, -3.5]]).expand(B, 2)
    (found,) = ours.loss(maps(), sizes(), targets(values)).values()
    torch.testing.assert_close(found, F.smooth_l1_loss(logits(ours), torch.tensor([-0.5, -1.0]).expand(B, 2)))
    fresh = head(2, target="regression")
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(fresh.scores(maps(), sizes()), ours.scores(maps(), sizes()))


def test_ordinal_probabilities_follow_from_coral() -> None:
    from coral_pytorch.dataset import proba_to_label
    from coral_pytorch.layers import CoralLayer

    reference = CoralLayer(8, 4)
    ours = head(target="ordinal")
    assert torch.equal(ours.thresholds, reference.coral_bias)  # both start in order
    reference.coral_weights.weight.data = ours.linear.weight.data * 20
    ours.linear.weight.data *= 20
    above = reference(maps()["c5"].mean(dim=(2, 3))).sigmoid()
    found = ours.scores(maps(), sizes())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(B))
    torch.testing.assert_close(found.flip(1).cumsum(1).flip(1)[:, 1:], above)
    from tasks.classification.metrics import decided

    labels = decided(found.detach().double().numpy(), "ordinal")
    assert labels.tolist() == proba_to_label(above).tolist()


def test_ordinal_probabilities_are_never_negative() -> None:
    ours = head(target="ordinal")
    with torch.no_grad():
        ours.thresholds.copy_(torch.tensor([-1.0, 2.0, 0.5]))
    found = ours.scores(maps(), sizes())
    assert found.min() == 0
    torch.testing.assert_close(found.sum(dim=1), torch.ones(B))


def test_dropout_depends_on_the_seed_of_the_image_alone() -> None:
    ours = head(dropout=0.5, hidden_channels=(64,)).train()
    values, seeds = shares(), torch.arange(B) + 100

    def losses(chosen: list[int]) -> Tensor:
        one = [
            ours.loss(
                {name: level[[i]] for name, level in maps().items()},
                sizes(1),
                Targets(seeds[[i]], labels=LabelTargets(values[[i]], torch.ones(1, dtype=torch.bool))),
            )["loss_cross_entropy"]
            for i in chosen
        ]
        return torch.stack(one).mean()

    whole = Targets(seeds, labels=LabelTargets(values, torch.ones(B, dtype=torch.bool)))
    together = ours.loss(maps(), sizes(), whole)["loss_cross_entropy"]
    torch.testing.assert_close(together, losses(list(range(B))))
    other = Targets(seeds + 1, labels=whole.labels)
    assert ours.loss(maps(), sizes(), other)["loss_cross_entropy"] != together
    assert torch.equal(ours.scores(maps(), sizes()), ours.eval().scores(maps(), sizes()))


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    ours = head(dropout=0.3).train()
    dropped = ours._drop(torch.ones(200, 500), torch.arange(200), 0)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert not torch.equal(dropped, ours._drop(torch.ones(200, 500), torch.arange(200), 1))


@pytest.mark.parametrize("target", ["single", "multi", "ordinal", "regression"])
def test_float32_under_autocast(target: Any) -> None:
    ours = head(target=target)
    rough = {name: level.bfloat16() for name, level in maps().items()}
    with torch.autocast("cpu", torch.bfloat16):
        found, (loss,) = ours.scores(rough, sizes()), ours.loss(rough, sizes(), targets(shares())).values()
    exact = {name: level.float() for name, level in rough.items()}
    assert found.dtype == loss.dtype == torch.float32
    assert torch.equal(found, ours.scores(exact, sizes()))
    assert torch.equal(loss, next(iter(ours.loss(exact, sizes(), targets(shares())).values())))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "c2"}, "c2 is missing"),
        ({"target": "several"}, "target is 'several'; expected 'single' or"),
        ({"pooling": "sum"}, "pooling is 'sum'; expected 'average' or 'max' or 'gem'"),
        ({"target": "regression", "loss": "cross_entropy"}, "loss of target 'regression' is 'cross_entropy'"),
        ({"loss": "mse"}, "expected 'auto' or 'cross_entropy' or 'focal' or 'bce'"),
        ({"target_threshold": 0.2}, "target_threshold is 0.2, but the loss is 'cross_entropy'"),
        ({"target": "ordinal", "loss": "mse"}, "expected 'auto' or 'coral'"),
        ({"num_classes": 1}, "needs at least 2 classes and has 1"),
        ({"target": "ordinal", "num_classes": 1}, "needs at least 2 classes and has 1"),
        ({"target": "ordinal", "label_smoothing": 0.1}, "label_smoothing is 0.1, but target 'ordinal'"),
        ({"target": "regression", "class_weights": (1.0,) * 4}, "target 'regression' has no classes"),
        ({"class_weights": (1.0, 2.0)}, r"class_weights is \(1.0, 2.0\); expected 4 numbers"),
        ({"class_weights": (1.0, 2.0, -1.0, 1.0)}, "expected no number below 0"),
        ({"value_mean": (1.0,) * 4}, "are for target 'regression', not 'single'"),
        ({"target": "regression", "value_std": (1.0, 1.0, 1.0, 0.0)}, "expected numbers above 0"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more and less than 1"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        head(options.pop("num_classes", 4), **options)
    assert "\n" not in str(caught.value)


def test_processes_of_unequal_shares_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    annotated = torch.tensor([True, True, False, True, True, True])
    ours = head(dropout=0.3, hidden_channels=(8,)).train()

    def part(rows: slice) -> tuple[Tensor, ...]:
        chosen = {name: level[rows] for name, level in maps().items()}
        labels = LabelTargets(shares()[rows], annotated[rows])
        (loss,) = ours.loss(chosen, sizes(len(labels.values)), Targets(torch.arange(B)[rows], labels=labels)).values()
        return loss, *torch.autograd.grad(loss, list(ours.parameters()))

    alone = part(slice(None))
    asked: list[float] = []

    def over_two_processes(count: Tensor) -> Tensor:  # what `mean_count` gives each of them
        asked.append(count.item())
        return torch.tensor(5 / 2)

    monkeypatch.setattr("heads.classification.mean_count", over_two_processes)
    both = [part(slice(0, 4)), part(slice(4, 6))]
    assert asked == [3.0, 2.0]
    for one, first, second in zip(alone, *both, strict=True):
        torch.testing.assert_close((first + second) / 2, one)
