"""Averages over mirrored and scaled copies, windows and models are the averages of what each gives alone."""

import pytest
import torch
from torch import Tensor, nn

from backbones import UserError, build_backbone
from backbones.contract import Backbone, FeatureSpec
from heads import Detections, FasterRCNN, ImageLabels, ImageSizes, MaskRCNN, Prediction, ScoringHead, SemanticMasks
from heads.contract import Targets
from tasks.config import InferenceConfig
from tasks.image_spec import ImageSpec
from tasks.inference import Predictor
from tasks.model import Model
from tests.tasks.test_sliding_window import batch_of


class Pixels(Backbone):
    """A convolution that is not symmetric, so that a mirrored image gives other scores."""

    in_channels = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.features = {"c1": FeatureSpec(2, 1)}
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.normal_(generator=torch.Generator().manual_seed(seed))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c1": self.conv(images)}


class PixelHead(ScoringHead):
    """Gives the feature map as scores."""

    reads = "masks"

    def loss(self, features: dict[str, Tensor], images: ImageSizes, targets: Targets) -> dict[str, Tensor]:
        return {}

    def scores(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        return features["c1"].float()

    def decide(self, scores: Tensor, images: ImageSizes) -> list[Prediction]:
        self.decided = scores
        return [SemanticMasks(own.argmax(0, keepdim=True).to(torch.uint8)) for own in scores]


class MeanHead(PixelHead):
    """Gives the mean of the feature map."""

    reads = "labels"

    def scores(self, features: dict[str, Tensor], images: ImageSizes) -> Tensor:
        return features["c1"].float().mean((2, 3))

    def decide(self, scores: Tensor, images: ImageSizes) -> list[Prediction]:
        self.decided = scores
        return [ImageLabels(own) for own in scores]


GREY = ImageSpec(channels=1, mean=(0.0,), std=(1.0,))


def model(seed: int = 0) -> Model:
    return Model(Pixels(seed), {"masks": PixelHead(), "labels": MeanHead()}, GREY)


def images(*valid: tuple[int, int]) -> Tensor:
    made = torch.zeros(len(valid), 1, 64, 64)
    for image, (height, width) in zip(made, valid, strict=True):
        image[:, :height, :width] = torch.rand(1, height, width, generator=torch.Generator().manual_seed(3)) * 255
    return made


def decided(network: Model) -> Tensor:
    head = network.heads["masks"]
    assert isinstance(head, PixelHead)
    return head.decided


def inner(scores: Tensor, height: int, width: int) -> Tensor:
    return scores[..., :height, :width]


def test_mirrored_copies_are_averaged_over_the_image_and_not_its_padding() -> None:
    valid = (40, 50)
    batch = batch_of(images(valid), [valid])
    network = model()
    predictor = Predictor([network], InferenceConfig(mirror=("horizontal", "vertical")))
    with torch.inference_mode():
        predictor(batch)
        found = inner(decided(network), *valid)
        own = batch.images[:, :, : valid[0], : valid[1]]
        expected = torch.zeros_like(found)
        for flips in ((), (2,), (3,), (2, 3)):
            padded = torch.zeros(1, 1, 64, 64)
            padded[:, :, : valid[0], : valid[1]] = own.flip(flips)
            view = batch_of(padded, [valid])
            expected += inner(network.scores(view)["masks"], *valid).flip(flips) / 4
    torch.testing.assert_close(found, expected)


def test_scaled_copies_come_back_in_the_size_of_the_batch() -> None:
    batch = batch_of(images((64, 64), (33, 50)), [(64, 64), (33, 50)])
    network = model()
    with torch.inference_mode():
        masks = Predictor([network], InferenceConfig(scales=(0.5, 1.0, 1.5)))(batch)["masks"]
        smooth = decided(network)
    assert len(masks) == 2
    assert smooth.shape == (2, 2, 64, 64)
    with torch.inference_mode():
        plain = network.scores(batch)["masks"]
    # Scores of a picture of noise differ from scale to scale, but on average not by much: none is shifted or cut.
    for row, valid in enumerate(batch.sizes.valid.tolist()):
        middle = (slice(None), slice(valid[0] // 4, 3 * valid[0] // 4), slice(valid[1] // 4, 3 * valid[1] // 4))
        torch.testing.assert_close(
            smooth[row][middle].mean((1, 2)), plain[row][middle].mean((1, 2)), atol=0.1, rtol=0.1
        )


def test_models_are_averaged() -> None:
    batch = batch_of(images((64, 64)), [(64, 64)])
    networks = [model(seed) for seed in range(3)]
    with torch.inference_mode():
        found = Predictor(networks, InferenceConfig())(batch)
        expected = torch.stack([network.eval().scores(batch)["labels"] for network in networks]).mean(0)
    (labels,) = found["labels"]
    assert isinstance(labels, ImageLabels)
    torch.testing.assert_close(labels.scores, expected[0])


def test_windows_leave_labels_to_the_whole_image() -> None:
    batch = batch_of(images((64, 64)), [(64, 64)])
    network = model()
    with torch.inference_mode():
        whole = network.eval().scores(batch)["labels"]
        (labels,) = Predictor([network], InferenceConfig(window=(32, 32)))(batch)["labels"]
    assert isinstance(labels, ImageLabels)
    torch.testing.assert_close(labels.scores, whole[0])


def test_windows_for_labels_alone_are_refused() -> None:
    network = Model(Pixels(0), {"labels": MeanHead()}, GREY)
    with pytest.raises(UserError, match=r"inference.window is \(32, 32\), but labels are of whole images"):
        Predictor([network], InferenceConfig(window=(32, 32)))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (InferenceConfig(window=(32, 32)), "inference.window"),
        (InferenceConfig(mirror=("horizontal",)), "inference.mirror"),
        (InferenceConfig(scales=(1.0, 2.0)), "inference.scales"),
    ],
)
def test_boxes_are_not_averaged(config: InferenceConfig, named: str) -> None:
    backbone = build_backbone("resnet18")
    detector = Model(backbone, {"boxes": FasterRCNN(backbone.features, 3)}, ImageSpec())
    with pytest.raises(UserError, match=named):
        Predictor([detector], config)


def test_masks_of_equal_models_stay_what_they_are() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    head = MaskRCNN(backbone.features, 3, score_threshold=0.0, detections_per_image=10, mask_channels=8)
    model = Model(backbone, {"boxes": head}, ImageSpec()).eval()
    batch = batch_of(torch.rand(2, 3, 64, 64) * 255, [(64, 64), (40, 50)])
    with torch.inference_mode():
        alone = model.predict(batch)["boxes"]
        together = Predictor([model, model], InferenceConfig())(batch)["boxes"]
    for one, both in zip(alone, together, strict=True):
        assert isinstance(one, Detections)
        assert isinstance(both, Detections)
        assert both.image_size == one.image_size
        assert both.masks is not None
        assert both.masks.shape == (len(both.boxes), 28, 28)
        # Those that overlapped no other of their class were fused with themselves alone.
        for box, label, mask in zip(both.boxes, both.labels, both.masks, strict=True):
            same = ((one.boxes - box).abs().amax(dim=1) < 1e-3) & (one.labels == label)
            if same.any() and one.masks is not None:
                torch.testing.assert_close(mask, one.masks[same][0], rtol=0, atol=1e-3)


def test_boxes_of_equal_models_stay_what_they_are() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    detector = Model(backbone, {"boxes": FasterRCNN(backbone.features, 3, score_threshold=0.0)}, ImageSpec()).eval()
    batch = batch_of(torch.rand(2, 3, 64, 64) * 255, [(64, 64), (40, 50)])
    with torch.inference_mode():
        alone = detector.predict(batch)["boxes"]
        together = Predictor([detector, detector], InferenceConfig())(batch)["boxes"]
    for one, both in zip(alone, together, strict=True):
        assert isinstance(one, Detections)
        assert isinstance(both, Detections)
        assert len(both.boxes)
        assert both.scores[0] == pytest.approx(float(one.scores[0]))
