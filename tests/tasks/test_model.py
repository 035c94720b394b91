"""Every config that is shipped, and every registered backbone under every registered head, takes a step."""

import pytest
import torch
from torch import nn

from backbones import UserError, backbones
from heads import BoxTargets, ImageSizes, Targets, heads
from tasks.config import BackboneConfig, Experiment, FasterRCNNConfig, PluginHeadConfig
from tasks.data.sample import Batch
from tasks.experiment_file import read_experiment
from tasks.image_spec import ImageSpec
from tasks.inventory import config_files
from tasks.label_map import LabelMap
from tasks.model import Model, build_model
from tasks.optim import build_optimizer

CLASSES = LabelMap(ids=(1, 2, 5), names=("a", "b", "c"))
CONFIGS = [str(file) for file in config_files()]


def batch(channels: int = 3) -> Batch:
    """Two images of different size, the second without a box."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, channels, 64, 96), dtype=torch.uint8, generator=generator)
    valid, original = torch.tensor([[64, 96], [50, 70]]), torch.tensor([[128, 192], [100, 140]])
    targets = BoxTargets(
        boxes=torch.tensor([[[8.0, 8, 40, 40], [50, 10, 90, 60]], [[0, 0, 0, 0], [0, 0, 0, 0]]]),
        labels=torch.tensor([[0, 2], [-1, -1]]),
        crowd=torch.zeros(2, 2, dtype=torch.bool),
        annotated=torch.ones(2, dtype=torch.bool),
    )
    sizes = ImageSizes((64, 96), valid, original)
    return Batch(images, sizes, Targets(torch.tensor([11, 12]), targets), (7, 9), ("one.png", "two.png"))


def take_step(model: Model, config: Experiment) -> None:
    """One optimizer step and a prediction; every trained weight has moved or had a gradient of zero."""
    config.optimizer.lr = 1e-4
    optimizer = build_optimizer(model, config.optimizer)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    losses = model.train()(batch(config.image.channels))
    assert losses
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert moved <= trained.keys()
    with torch.inference_mode():
        found = model.eval().predict(batch(config.image.channels))
    assert found.keys() == config.heads.keys()
    for predictions in found.values():
        assert len(predictions) == 2
        for prediction, (height, width) in zip(predictions, batch().sizes.original.tolist(), strict=True):
            assert prediction.boxes.shape == (len(prediction.scores), 4)
            assert (prediction.boxes >= 0).all()
            assert (prediction.boxes <= torch.tensor([width, height, width, height])).all()
            assert ((prediction.labels >= 0) & (prediction.labels < len(CLASSES))).all()


def test_configs_are_found() -> None:
    assert "configs/det/faster_rcnn_r50_fpn.py" in CONFIGS


@pytest.mark.parametrize("file", CONFIGS)
@pytest.mark.parametrize("variant", ["config", "sample"])
def test_every_config(file: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_experiment(next(path for path in config_files() if str(path) == file))
    if variant == "sample" and source.sample is None:
        return
    config = source.experiment if variant == "config" or source.sample is None else source.sample()
    assert Experiment.model_validate_json(config.model_dump_json()) == config, "config.json would differ"
    torch.manual_seed(0)
    take_step(build_model(config, dict.fromkeys(config.heads, CLASSES)), config)


@pytest.mark.parametrize("head", heads.names())
@pytest.mark.parametrize("backbone", backbones.names())
def test_every_backbone_with_every_head(backbone: str, head: str) -> None:
    head_config = FasterRCNNConfig(fpn_channels=16, box_head_channels=16, rpn_post_nms=20, roi_samples=8)
    config = Experiment(
        backbone=BackboneConfig(name=backbone),
        heads={"out": head_config if head == "faster_rcnn" else PluginHeadConfig(name=head)},
    )
    torch.manual_seed(0)
    take_step(build_model(config, {"out": CLASSES}), config)


def test_padding_is_zero_at_the_input_of_the_network(tiny: Experiment) -> None:
    model = build_model(tiny, {"boxes": CLASSES})
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.features(batch())
    (images,) = seen
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images[1, :, 50:].any()
    assert not images[1, :, :, 70:].any()
    assert images[1, :, :50, :70].all()


@pytest.mark.parametrize(
    "spec",
    [ImageSpec(), ImageSpec(low=20, high=200), ImageSpec(channels=1, bit_depth=16, low=100, mean=(0.3,), std=(0.2,))],
)
def test_normalisation_is_the_formula(spec: ImageSpec, tiny: Experiment) -> None:
    tiny.image = spec
    model = build_model(tiny, {"boxes": CLASSES})
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.features(batch(spec.channels))
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (spec.mean, spec.std))
    expected = ((batch(spec.channels).images.double() - spec.low) / (spec.white - spec.low) - mean) / std
    torch.testing.assert_close(seen[0][0].double(), expected[0], rtol=1e-5, atol=1e-5)


def test_several_heads_share_one_pass(tiny: Experiment) -> None:
    tiny.heads = {"first": tiny.heads["boxes"], "second": tiny.heads["boxes"]}
    model = build_model(tiny, {"first": CLASSES, "second": LabelMap(ids=(1,), names=("x",))})
    passes: list[nn.Module] = []
    model.backbone.register_forward_hook(lambda module, inputs, output: passes.append(module))
    targets = batch()
    targets.targets.boxes.labels.clamp_(max=0)  # type: ignore[union-attr]
    losses = model(targets)
    assert len(passes) == 1
    assert {name.split("/")[0] for name in losses} == {"first", "second"}
    assert len(losses) == 8
    assert not {name for name in model.state_dict() if name in ("mean", "std")}


@pytest.mark.parametrize("field", ["mean", "std"])
def test_one_value_a_channel(field: str, tiny: Experiment) -> None:
    setattr(tiny.image, field, (0.5, 0.5))
    with pytest.raises(UserError, match=rf"image\.{field} has 2 values for 3 channels"):
        build_model(tiny, {"boxes": CLASSES})
