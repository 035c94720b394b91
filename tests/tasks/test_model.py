"""Every config that is shipped, and every registered backbone under every registered head, takes a step."""

import pytest
import torch
from torch import nn

from backbones import UserError
from tasks.config import Experiment
from tasks.experiment_file import read_experiment
from tasks.image_spec import ImageSpec
from tasks.inventory import config_files
from tasks.label_map import LabelMap
from tasks.model import build_model
from tests.tasks.steps import CLASSES, batch, take_step

CONFIGS = [str(file) for file in config_files()]


def test_configs_are_found() -> None:
    assert "configs/det/faster_rcnn_r50_fpn.py" in CONFIGS


@pytest.mark.parametrize("file", CONFIGS)
def test_every_config_tells_its_command(file: str) -> None:
    about = read_experiment(next(path for path in config_files() if str(path) == file)).about
    assert f"\n    python tools/train.py {file}" in about or f"\n    python tools/cross_validate.py {file}" in about


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
