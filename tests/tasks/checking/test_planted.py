"""Faults that people make are named, and what is right is not called wrong."""

import numpy as np
import pytest

from tasks.checking import catalogue
from tasks.checking.catalogue import TITLES, kinds_of
from tasks.checking.checking import find
from tasks.config import BackboneConfig, ClassificationConfig, Experiment, SourceConfig
from tasks.image_spec import ImageSpec
from tests.tasks.checking.conftest import Make
from tests.tasks.checking.networks import registered_networks  # noqa: F401  used by all tests
from tests.tasks.checking.planted_annotations import ANNOTATIONS
from tests.tasks.checking.planted_images import IMAGES
from tests.tasks.checking.planted_training import TRAINING
from tests.tasks.checking.shapes import read, write_image

DATA = {**IMAGES, **ANNOTATIONS}


@pytest.mark.parametrize("kind", ["boxes", "masks", "labels"])
def test_nothing_is_found_in_what_is_right(make: Make, kind: str) -> None:
    config, _ = make(kind)
    config.backbone = BackboneConfig(name="checked_net")
    outcome = find(config, ("data", "training"), 60)
    found = [(each.finding.kind.code, each.seen) for each in outcome.found if each.finding.kind.grade != "note"]
    assert found == []


@pytest.mark.parametrize("name", DATA)
def test_a_fault_in_the_data_is_named(make: Make, name: str) -> None:
    planted = DATA[name]
    config, folder = make(planted.kind)
    planted.spoil(config, folder)
    outcome = find(config, ("data",), 60)
    assert planted.code in outcome.codes, str(outcome)


@pytest.mark.parametrize("name", TRAINING)
def test_a_fault_in_the_training_is_named(make: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = TRAINING[name]
    if "export" not in planted.code:  # which takes seconds
        monkeypatch.delitem(catalogue.TRAINING, "export")
    config, folder = make(planted.kind)
    config.backbone = BackboneConfig(name="checked_net")
    planted.spoil(config, folder)
    outcome = find(config, ("training",), 60)
    assert planted.code in outcome.codes, str(outcome)


@pytest.mark.slow
def test_each_of_several_data_sets_is_checked(make: Make) -> None:
    config, folder = make("boxes")
    config.backbone = BackboneConfig(name="checked_net")
    config.heads["labels"] = ClassificationConfig()
    config.data.root = None
    config.data.sources = {
        "things": SourceConfig(root=folder, heads=("boxes",)),
        "portraits": SourceConfig(root=folder / "labels.csv", heads=("labels",)),
    }
    DATA["a patient on both sides"].spoil(config, folder)
    outcome = find(config, ("data", "training"), 60)
    (leak,) = [each for each in outcome.found if each.finding.kind.grade != "note"]
    assert leak.finding.kind.code == "group-on-both-sides"
    assert leak.seen.startswith("portraits: 1 groups (patient0)")


def test_the_planted_set_is_large_and_names_findings() -> None:
    codes = {kind.code for module in TITLES for kind in kinds_of(module)}
    assert len(DATA) + len(TRAINING) >= 25
    assert {planted.code for planted in (*DATA.values(), *TRAINING.values())} <= codes


@pytest.mark.parametrize("kind", [pytest.param("tiny_instances", marks=pytest.mark.slow), "tiny_masks", "tiny_labels"])
def test_no_error_in_generated_cells(request: pytest.FixtureRequest, kind: str) -> None:
    config: Experiment = request.getfixturevalue(kind)
    config.backbone = BackboneConfig(name="checked_net")
    outcome = find(config, ("data", "training"), 60)
    assert outcome.count("error") == 0, [(each.finding.kind.code, each.seen) for each in outcome.found]


@pytest.mark.parametrize("bits", [8, 16])
def test_nothing_is_found_in_grey_images(make: Make, bits: int) -> None:
    config, folder = make("masks")
    config.backbone = BackboneConfig(name="checked_net")
    config.image = ImageSpec(channels=1, bit_depth=bits, mean=(0.6,), std=(0.1,))
    for file in (folder / "masks" / "images").rglob("*.png"):
        grey = read(file).mean(axis=2)
        write_image(file, grey.astype(np.uint8) if bits == 8 else (grey * 257).astype(np.uint16))
    outcome = find(config, ("data", "training"), 60)
    found = [(each.finding.kind.code, each.seen) for each in outcome.found if each.finding.kind.grade != "note"]
    assert found == []
