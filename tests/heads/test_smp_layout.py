"""Models of segmentation-models-pytorch load by name; anything else is refused."""

import pytest
import segmentation_models_pytorch as smp
import torch

from backbones import UserError, build_backbone
from backbones.weights_file import WeightsFile
from heads import ImageSizes, heads
from heads.smp_layout import split_smp_model


def test_a_model_loads_whole_and_gives_the_same() -> None:
    torch.manual_seed(0)
    reference = smp.Unet("resnet18", encoder_weights=None, classes=4).eval()
    backbone = build_backbone("resnet18").eval()
    parts = split_smp_model(WeightsFile(reference.state_dict()), backbone.state_dict(), "net.pth")
    head = heads.build("unet", backbone.features, 3).eval()
    left = backbone.load_state_dict(parts.backbone, strict=False)
    assert not left.missing_keys
    assert not left.unexpected_keys
    head.load_state_dict(parts.head, strict=True)
    images, size = torch.rand(1, 3, 64, 96), torch.tensor([[64, 96]])
    with torch.inference_mode():
        found = head.logits(backbone(images), ImageSizes((64, 96), size, size))
        torch.testing.assert_close(found, reference(images), atol=1e-5, rtol=1e-5)


def test_densenets_are_refused_for_they_compute_something_else() -> None:
    keys = ["encoder.features.norm5.weight", "decoder.b", "segmentation_head.0.bias"]
    with pytest.raises(UserError, match=r"last ReLU.*--backbone\.weights"):
        split_smp_model(WeightsFile(dict.fromkeys(keys, torch.zeros(1))), [], "net.pth")


@pytest.mark.parametrize(
    "keys", [["conv1.weight"], ["encoder.conv1.weight"], ["decoder.x"], ["encoder.a", "decoder.b", "c"]]
)
def test_anything_else_is_refused(keys: list[str]) -> None:
    with pytest.raises(UserError, match="segmentation-models-pytorch"):
        split_smp_model(WeightsFile(dict.fromkeys(keys, torch.zeros(1))), [], "net.pth")
