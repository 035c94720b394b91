"""Maps of whole models: captum's for labels; for boxes and masks, models in which it is known what counts."""

from functools import partial

import pytest
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam
from torch import Tensor, nn

from backbones import Backbone, FeatureSpec, UserError, build_backbone
from heads import (
    FCOS,
    YOLO,
    Classification,
    Detections,
    FasterRCNN,
    Head,
    ImageLabels,
    ImageSizes,
    Prediction,
    RetinaNet,
    SemanticMasks,
)
from heads.segmentation import Decoder, SegmentationHead
from tasks.data.sample import Batch
from tasks.detection.task import DetectionTask
from tasks.explanation.arguments import Method
from tasks.explanation.class_activation import hires_cam
from tasks.explanation.explainer import Explainer
from tasks.explanation.subject import Question, Subject
from tasks.image_spec import ImageSpec
from tasks.model import Model
from tasks.segmentation.task import SegmentationTask
from tests.tasks.steps import CLASSES
from tests.tasks.test_sliding_window import batch_of

SIZE = 64
ASKED = Question(None, top=3, threshold=0.5, region=None)
LABELS = ImageLabels(torch.zeros(3))


def logit(label: int, logits: Tensor) -> Tensor:
    return logits[label]


def subject(label: int = 1) -> Subject:
    return Subject("", label, partial(logit, label))


def image(channels: int = 3) -> Tensor:
    return torch.rand(1, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 255


def whole() -> Batch:
    return batch_of(image(), [(SIZE, SIZE)])


@pytest.fixture(scope="module")
def classifier() -> Model:
    """A network with norms that have seen data, so that its numbers are of ordinary size."""
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    with torch.no_grad():
        for _ in range(10):
            backbone(torch.randn(4, 3, SIZE, SIZE))
    return Model(backbone, {"labels": Classification(backbone.features, 3)}, ImageSpec()).eval()


def logits_of(model: Model, images: Tensor) -> Tensor:
    """(B, 3) by the modules themselves."""
    head = model.heads["labels"]
    assert isinstance(head, Classification)
    return head.linear(model.backbone(images)["c5"].mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("level", "layer"), [("c5", "layer4.1"), ("c4", "layer3.1"), ("c2", "layer1.1")])
def test_grad_cam_is_captums(classifier: Model, level: str, layer: str) -> None:
    batch = whole()
    reference = LayerGradCam(partial(logits_of, classifier), classifier.backbone.get_submodule(layer))
    cells = reference.attribute(classifier.network_input(batch), target=1, relu_attributions=True)
    expected = LayerAttribution.interpolate(cells, (SIZE, SIZE), "bilinear")[0]
    assert expected.max() > 0
    found = Explainer(classifier, "labels", "gradcam", [level])(batch, LABELS, [subject()])
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


def test_hires_cam_of_a_linear_head_is_complete(classifier: Model) -> None:
    """The cells of C5 add up to the logit less its bias."""
    head = classifier.heads["labels"]
    assert isinstance(head, Classification)
    batch = batch_of(image().repeat(1, 1, 1, 2), [(SIZE, 2 * SIZE)])
    features = {name: level.detach().requires_grad_() for name, level in classifier.features(batch).items()}
    (logits,) = head.class_logits(features, batch.sizes, [LABELS])
    (gradients,) = torch.autograd.grad(logits[1], features["c5"])
    cells = hires_cam(features["c5"][0], gradients[0]).detach()
    assert cells.shape == (2, 4)
    assert float(cells.sum()) == pytest.approx((logits[1] - head.linear.bias[1]).item(), abs=1e-5)
    found = Explainer(classifier, "labels", "hirescam", ["c5"])(batch, LABELS, [subject()])
    expected = nn.functional.interpolate(cells.relu()[None, None], (SIZE, 2 * SIZE), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


class Smooth(Backbone):
    """A network without kinks, where rounding cannot turn a gradient on or off."""

    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.features = {"c1": FeatureSpec(8, 2), "c2": FeatureSpec(8, 4)}
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = nn.functional.gelu(self.first(images))
        return {"c1": first, "c2": nn.functional.gelu(self.second(first))}


def test_integrated_gradients_are_captums_and_complete() -> None:
    torch.manual_seed(0)
    backbone = Smooth()
    head = Classification(backbone.features, 3)
    torch.nn.init.normal_(head.linear.weight)
    model, batch = Model(backbone, {"labels": head}, ImageSpec()), whole()
    images = model.network_input(batch)

    def logits(copies: Tensor) -> Tensor:
        return head.linear(backbone(copies)["c2"].mean((2, 3)))  # type: ignore[no-any-return]

    expected = IntegratedGradients(logits).attribute(images, target=1, n_steps=50, method="gausslegendre").sum(1)
    found = Explainer(model, "labels", "integrated_gradients").integrated_gradients(batch, LABELS, [subject()])
    torch.testing.assert_close(found, expected.detach().float(), atol=1e-5, rtol=1e-5)
    difference = logits(images) - logits(torch.zeros_like(images))
    assert found.sum().item() == pytest.approx(difference[0, 1].item(), rel=1e-3)


class Colours(Backbone):
    """Every level is the image itself, averaged to its stride: what lights up is known by its place and channel."""

    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.features = {f"c{i}": FeatureSpec(3, 1 << i) for i in range(1, 6)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: nn.functional.avg_pool2d(images, spec.stride) for name, spec in self.features.items()}


def test_score_cam_by_one_channel_at_a_time() -> None:
    torch.manual_seed(0)
    backbone = Colours()
    head = Classification(backbone.features, 3, level="c3", hidden_channels=(8,))
    model, batch = Model(backbone, {"labels": head}, ImageSpec()), whole()
    batch.images[:, 2] = 17  # a channel that marks nothing
    images = model.network_input(batch)
    with torch.no_grad():
        maps = backbone(images)["c3"]
        gains = []
        for channel in (maps[:, :1], maps[:, 1:2]):
            seen = nn.functional.interpolate(channel, (SIZE, SIZE), mode="bilinear")
            seen = (seen - seen.min()) / (seen.max() - seen.min())
            masked, empty = backbone(images * seen), backbone(torch.zeros_like(images))
            both = [head.class_logits(levels, batch.sizes, [LABELS])[0][2] for levels in (masked, empty)]
            gains.append(both[0] - both[1])
        first, second = torch.stack(gains).softmax(0)
        cells = first * maps[:, :1] + second * maps[:, 1:2]
        expected = nn.functional.interpolate(cells.relu(), (SIZE, SIZE), mode="bilinear")[0]
    assert expected.max() > 0
    found = Explainer(model, "labels", "scorecam", ["c3"])(batch, LABELS, [subject(0), subject(2)])
    torch.testing.assert_close(found[1:], expected)
    assert not torch.allclose(found[0], found[1])


PLAIN = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
# Patches of 32 x 32 pixels in an image of 256 x 256, and the channel that each one is bright in.
FIRST, SECOND, OTHER = (
    (slice(32, 64), slice(32, 64)),
    (slice(192, 224), slice(192, 224)),
    (slice(32, 64), slice(96, 128)),
)


def patches() -> Batch:
    pixels = torch.zeros(1, 3, 256, 256)
    pixels[0, 0][FIRST] = pixels[0, 0][SECOND] = pixels[0, 1][OTHER] = 255
    return batch_of(pixels, [(256, 256)])


def share_inside(found: Tensor, patch: tuple[slice, slice], margin: int = 0) -> float:
    rows, columns = (slice(side.start - margin, side.stop + margin) for side in patch)
    return float(found[rows, columns].sum() / found.sum())


@pytest.fixture(scope="module")
def detector() -> Model:
    """A detector to which only the first channel matters."""
    torch.manual_seed(0)
    backbone = Colours()
    head = FasterRCNN(backbone.features, 3, fpn_channels=8, box_head_channels=16)
    with torch.no_grad():
        for name, weight in head.fpn.named_parameters():
            weight.abs_()
            if name.startswith("lateral") and name.endswith("weight"):
                weight[:, 1:] = 0
        for layer in (head.roi_head.fc6, head.roi_head.fc7, head.roi_head.cls_score):
            layer.weight.abs_()
    return Model(backbone, {"boxes": head}, PLAIN)


BOXES = Detections(
    torch.tensor([[30.0, 30, 66, 66], [190.0, 190, 226, 226], [0.0, 0, 9, 9]]),
    torch.tensor([0.9, 0.8, 0.1]),
    torch.tensor([0, 2, 1]),
)


@pytest.mark.parametrize("method", ["layercam", "hirescam"])
def test_a_box_lights_up_where_its_object_is_and_nowhere_else(detector: Model, method: str) -> None:
    batch = patches()
    subjects = DetectionTask.subjects(BOXES, batch.sizes, CLASSES, ASKED)
    assert [one.title for one in subjects] == ["a 0.90", "c 0.80"]
    first, second = Explainer(detector, "boxes", method, ["c3"])(batch, BOXES, subjects)  # type: ignore[arg-type]
    # Bilinear enlargement spreads a cell over half a cell more.
    assert share_inside(first, FIRST, margin=4) == pytest.approx(1)
    assert share_inside(second, SECOND, margin=4) == pytest.approx(1)
    assert first[FIRST].min() > 0


@pytest.mark.parametrize("kind", ["retinanet", "fcos", "yolo"])
def test_so_does_a_box_of_one_stage(kind: str) -> None:
    """Under heads to which only the first channel matters, and whose cells find boxes as large as these."""
    torch.manual_seed(0)
    backbone = Colours()
    options = {"fpn_channels": 8, "tower_depth": 0}
    head = {"retinanet": RetinaNet, "fcos": FCOS, "yolo": YOLO}[kind](backbone.features, 3, **options)
    with torch.no_grad():
        for name, weight in head.fpn.named_parameters():
            weight.abs_()
            if name.startswith("lateral") and name.endswith("weight"):
                weight[:, 1:] = 0
        head.cls_logits.weight.abs_()
        head.bbox_pred.weight.zero_()
        if kind == "fcos":
            head.bbox_pred.bias.fill_(2.25)
        elif kind == "yolo":
            head.bbox_pred.bias.view(4, -1)[:, 2] = 20
    batch = patches()
    subjects = DetectionTask.subjects(BOXES, batch.sizes, CLASSES, ASKED)
    model = Model(backbone, {"boxes": head}, PLAIN)
    first, second = Explainer(model, "boxes", "layercam", ["c3"])(batch, BOXES, subjects)
    assert share_inside(first, FIRST, margin=4) == pytest.approx(1)
    assert share_inside(second, SECOND, margin=4) == pytest.approx(1)
    assert first[FIRST].min() > 0


def test_averaged_gradients_show_the_other_box_too(detector: Model) -> None:
    """Why boxes are not explained by Grad-CAM unless that is asked for."""
    batch = patches()
    subjects = DetectionTask.subjects(BOXES, batch.sizes, CLASSES, ASKED)
    first = Explainer(detector, "boxes", "gradcam", ["c3"])(batch, BOXES, subjects)[0]
    assert share_inside(first, FIRST, margin=4) == pytest.approx(0.5, abs=0.01)
    assert share_inside(first, OTHER, margin=4) == pytest.approx(0, abs=1e-6)


def test_the_levels_of_boxes_are_fused_unless_one_is_named(detector: Model) -> None:
    batch = patches()
    subjects = DetectionTask.subjects(BOXES, batch.sizes, CLASSES, ASKED)
    explainer = Explainer(detector, "boxes", "layercam")
    fused = explainer(batch, BOXES, subjects)
    assert explainer.levels == ("c3", "c4", "c5")
    each = [Explainer(detector, "boxes", "layercam", [level])(batch, BOXES, subjects) for level in explainer.levels]
    for row, found in enumerate(fused):
        strengths = torch.stack([torch.tanh(2 * maps[row] / maps[row].max()) for maps in each])
        torch.testing.assert_close(found, strengths.amax(0))


class Pixelwise(SegmentationHead):
    """A head for masks whose logits are a 1x1 convolution of C1."""

    name = "pixelwise"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.features, 3, Decoder(First(), ("c1",), 0, 3, 1, 2))
        with torch.no_grad():
            convolution = self.segmentation_head[0]
            convolution.weight.copy_(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])[:, :, None, None])
            convolution.bias.zero_()


class First(nn.Module):
    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0]


def masks() -> SemanticMasks:
    found = torch.zeros(1, 256, 256, dtype=torch.uint8)
    found[0][FIRST], found[0][OTHER] = 1, 2
    return SemanticMasks(found)


@pytest.mark.parametrize("method", ["layercam", "hirescam"])
def test_an_area_lights_up_by_its_own_channel(method: str) -> None:
    """Class a depends on the first channel, b on the second; only what lies in the area that is asked about counts."""
    backbone = Colours()
    model, batch = Model(backbone, {"masks": Pixelwise(backbone)}, PLAIN), patches()
    subjects = SegmentationTask.subjects(masks(), batch.sizes, CLASSES, ASKED)
    assert [one.title for one in subjects] == ["a, 1.6% of the image", "b, 1.6% of the image"]
    found = Explainer(model, "masks", method, ["c1"])(batch, masks(), subjects)  # type: ignore[arg-type]
    for one, patch in zip(found, (FIRST, OTHER), strict=True):
        assert share_inside(one, patch, margin=2) == pytest.approx(1)
    asked = Question((0, 2), top=3, threshold=0.5, region=(180, 180, 256, 256))
    second, nothing = SegmentationTask.subjects(masks(), batch.sizes, CLASSES, asked)
    found = Explainer(model, "masks", method, ["c1"])(batch, masks(), [second, nothing])  # type: ignore[arg-type]
    assert share_inside(found[0], SECOND, margin=2) == pytest.approx(1)
    assert float(found[1].max()) == 0


def test_the_mean_over_an_area_that_is_resized_and_padded() -> None:
    sizes = ImageSizes((32, 32), torch.tensor([[16, 24]]), torch.tensor([[160, 240]]))
    found = torch.zeros(1, 160, 240, dtype=torch.uint8)
    found[0, 55:60, 100:120] = 1  # half a pixel of the batch high, two wide
    (only,) = SegmentationTask.subjects(SemanticMasks(found), sizes, CLASSES, ASKED)
    logits = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert only.value(logits) == pytest.approx(logits[0, 5, 10:12].mean())


def test_the_model_stays_as_it_is(classifier: Model) -> None:
    classifier.train()
    classifier.backbone.get_submodule("layer1").eval()
    modes = [module.training for module in classifier.modules()]
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    for method, levels in (("gradcam", ["c4"]), ("scorecam", ["c1"]), ("integrated_gradients", [])):
        Explainer(classifier, "labels", method, levels)(whole(), LABELS, [subject()])  # type: ignore[arg-type]
    assert [module.training for module in classifier.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in classifier.parameters())
    classifier.eval()


def test_neither_autocast_nor_frozen_weights_change_a_map(classifier: Model) -> None:
    explainer = Explainer(classifier, "labels", "layercam", ["c3", "c5"])
    expected = explainer(whole(), LABELS, [subject()])
    classifier.requires_grad_(False)
    classifier.freeze_backbone(True)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = explainer(whole(), LABELS, [subject()])
    classifier.requires_grad_(True)
    classifier.freeze_backbone(False)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_what_is_padded_is_left_out() -> None:
    backbone, batch = Colours(), batch_of(image(), [(50, 40)])
    model = Model(backbone, {"labels": Classification(backbone.features, 3)}, PLAIN)
    for method in ("gradcam", "scorecam", "integrated_gradients"):
        found = Explainer(model, "labels", method)(batch, LABELS, [subject(0), subject(1)])  # type: ignore[arg-type]
        assert found.shape == (2, 50, 40)


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_the_deepest_level_that_counts(classifier: Model, method: Method) -> None:
    model = Model(
        classifier.backbone, {"labels": Classification(classifier.backbone.features, 3, level="c4")}, ImageSpec()
    )
    explainer = Explainer(model, "labels", method)
    explainer(whole(), LABELS, [subject()])
    assert explainer.levels == ("c4",)
    with pytest.raises(UserError, match="'c5', on which the logits of the head 'labels' do not depend"):
        Explainer(model, "labels", method, ["c5"])(whole(), LABELS, [subject()])


class Silent(Head):
    reads = "labels"

    def loss(self, *arguments: object) -> dict[str, Tensor]:  # type: ignore[override]
        return {}

    def predict(self, *arguments: object) -> list[Prediction]:  # type: ignore[override]
        return []


def test_a_head_that_tells_no_logits_is_refused(classifier: Model) -> None:
    with pytest.raises(UserError, match=r"'mine' \(Silent\) does not tell its class logits.*heads.Explainable"):
        Explainer(Model(classifier.backbone, {"mine": Silent()}, ImageSpec()), "mine", "gradcam")


@pytest.mark.parametrize(
    ("method", "levels", "told"),
    [
        ("gradcam", ["c9"], "'c9'; expected levels of the backbone: c1, c2, c3, c4, c5"),
        ("gradcam", ["c4", "c5"], "only layercam fuses levels"),
        ("integrated_gradients", ["c5"], "looks at the image itself"),
    ],
)
def test_levels_that_a_method_cannot_take(classifier: Model, method: str, levels: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Explainer(classifier, "labels", method, levels)  # type: ignore[arg-type]
