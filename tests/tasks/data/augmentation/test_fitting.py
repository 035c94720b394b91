"""Sizes of images that are trained on and evaluated, and what does not go together."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import v2

from backbones.errors import UserError
from tasks.config import AugmentConfig, DataConfig
from tasks.data.augmentation.augment import Augmentation, fit_for_evaluation
from tasks.data.augmentation.combinations import require_fitting
from tasks.data.augmentation.geometry import Annotated
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec


def test_evaluation_equals_torchvision() -> None:
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for fields, theirs in (
        ({"short_side": (256,), "center_crop": (224, 224)}, [v2.Resize(256), v2.CenterCrop(224)]),
        ({"size": (128, 160), "center_crop": (127, 99)}, [v2.Resize((128, 160)), v2.CenterCrop((127, 99))]),
        ({"size": (96, 80)}, [v2.Resize((96, 80))]),
    ):
        item = Annotated(image.copy(), np.zeros((0, 4)), np.arange(0))
        fit_for_evaluation(item, DataConfig.model_validate(fields))
        expected = v2.Compose(theirs)(tensor).permute(1, 2, 0).numpy()
        assert np.abs(item.image.astype(int) - expected).max() <= 1
    small = Annotated(image[:100, :300], np.zeros((0, 4)), np.arange(0))
    fit_for_evaluation(small, DataConfig(size=(100, 300), center_crop=(80, 80)))
    assert small.image.shape == (80, 80, 3)
    fit_for_evaluation(small, DataConfig(short_side=(80,), center_crop=(90, 60)))
    assert small.image.shape == (80, 60, 3)


def test_images_shrink_alike_in_training_and_evaluation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    still = {"augment": {"horizontal_flip": 0.0}}
    results = {}
    for fields in ({"size": (40, 50)}, {"size": (40, 50), "antialias": False}, {"short_side": (40,)}):
        config = DataConfig.model_validate(fields | still)
        trained, evaluated = (Annotated(image.copy(), np.zeros((0, 4)), np.arange(0)) for _ in range(2))
        Augmentation(config, ImageSpec())(trained, 0)
        fit_for_evaluation(evaluated, config)
        np.testing.assert_array_equal(trained.image, evaluated.image)
        results[str(fields)] = float(trained.image.std())
    averaged, *sampled = results.values()
    assert averaged < 0.75 * min(sampled)  # noise is averaged away


def test_training_brings_images_to_their_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for fields, size in (
        ({"size": (48, 80)}, (48, 80)),
        ({"size": (48, 80), "center_crop": (40, 40), "augment": {"random_resized_crop": (0.1, 1)}}, (40, 40)),
        ({"short_side": (64,), "center_crop": (40, 50), "augment": {"random_resized_crop": (0.1, 1)}}, (40, 50)),
        ({"size": (48, 80), "augment": {"random_resized_crop": (0.1, 1), "rotate": 40, "elastic": 0.02}}, (48, 80)),
        ({"size": (32, 32), "augment": {"crop": (32, 32), "crop_padding": 4}}, (32, 32)),
    ):
        augment = Augmentation(DataConfig.model_validate(fields), ImageSpec())
        images = []
        for seed in range(6):
            item = Annotated(noise.copy(), np.zeros((0, 4)), np.arange(0))
            augment(item, seed)
            assert item.size == size
            images.append(item.image)
        assert any(not np.array_equal(images[0], image) for image in images[1:])


LABELS, MASKS = Wanted(boxes=False, labels="single"), Wanted(boxes=False, masks="one")


@pytest.mark.parametrize(
    ("fields", "wanted", "message"),
    [
        ({"center_crop": (9, 9)}, Wanted(), r"data\.center_crop is \(9, 9\), but a head predicts boxes"),
        ({"center_crop": (9, 9)}, MASKS, "but a head predicts masks"),
        ({"center_crop": (9, 9), "size": (20, 8)}, LABELS, r"expected at most data\.size, \(20, 8\)"),
        ({"augment": {"mixup": 0.2}}, Wanted(), r"data\.augment\.mixup is 0\.2, but a head learns from boxes"),
        ({"augment": {"cutmix": 1}}, Wanted(labels="multi", masks="one"), r"cutmix is 1, .* boxes and masks"),
        ({"augment": {"cutmix": 1}}, Wanted(boxes=False, labels="regression"), "numbers of a regression"),
        ({"augment": {"random_resized_crop": (0.1, 1)}}, LABELS, r"set one of them"),
        ({"size": (9, 9), "augment": {"random_resized_crop": (0.1, 1), "crop": (9, 9)}}, LABELS, r"augment\.crop is"),
        ({"augment": {"crop_padding": 4}}, LABELS, r"data\.augment\.crop_padding is 4"),
        ({"augment": {"mosaic": 1}}, LABELS, r"data\.augment\.mosaic is 1, but a head learns from labels of whole"),
        ({"augment": {"copy_paste": 1}}, Wanted(labels="multi"), r"data\.augment\.copy_paste is 1, .* labels of whole"),
        ({"augment": {"close_mosaic": 2}}, Wanted(), r"close_mosaic is 2, but data\.augment\.mosaic is 0"),
    ],
)
def test_what_does_not_go_together(fields: dict[str, Any], wanted: Wanted, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        require_fitting(DataConfig.model_validate(fields), wanted)
    assert "\n" not in str(error.value)


def test_what_goes_together() -> None:
    require_fitting(DataConfig(), Wanted())
    augment = AugmentConfig(mixup=0.2, cutmix=1.0, random_resized_crop=(0.08, 1.0))
    require_fitting(DataConfig(size=(256, 256), center_crop=(224, 224), augment=augment), LABELS)
    require_fitting(DataConfig(augment=AugmentConfig(mixup=0.2)), Wanted(boxes=False, labels="regression"))
    joined = AugmentConfig(mosaic=1.0, close_mosaic=2, copy_paste=0.5)
    require_fitting(DataConfig(augment=joined), Wanted(outlines=True, masks="one"))


@pytest.mark.parametrize("name", ["scale_jitter", "gamma", "random_resized_crop"])
def test_a_range_runs_upwards(name: str) -> None:
    with pytest.raises(ValidationError, match="expected the smaller number first"):
        AugmentConfig.model_validate({name: (0.9, 0.5)})
