"""Faults that people make are named, and what is right is not called wrong."""

import pytest

from tasks.checking.checking import find
from tasks.config import BackboneConfig, ClassificationConfig, SourceConfig
from tests.tasks.checking import networks  # noqa: F401  registers them
from tests.tasks.checking.conftest import Make
from tests.tasks.checking.planted import DATA, TRAINING


@pytest.mark.parametrize("kind", ["boxes", "masks", "labels"])
def test_nothing_is_found_in_what_is_right(make: Make, kind: str) -> None:
    outcome = find(make(kind)[0], ("data", "training"), 60)
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
def test_a_fault_in_the_training_is_named(make: Make, name: str) -> None:
    planted = TRAINING[name]
    config, folder = make(planted.kind)
    config.backbone = BackboneConfig(name="checked_net")
    planted.spoil(config, folder)
    outcome = find(config, ("training",), 60)
    assert planted.code in outcome.codes, str(outcome)


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
