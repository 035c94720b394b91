"""Faults that people make are named, and what is right is not called wrong."""

import pytest

from tasks.checking.checking import find, summary
from tasks.config import BackboneConfig
from tests.tasks.checking import networks  # noqa: F401  registers them
from tests.tasks.checking.conftest import Make
from tests.tasks.checking.planted import DATA, TRAINING


@pytest.mark.parametrize("kind", ["boxes", "masks", "labels"])
def test_nothing_is_found_in_what_is_right(make: Make, kind: str) -> None:
    outcome = find(make(kind)[0], ("data", "training"), 60)
    found = [(finding.kind.code, finding.seen) for finding in outcome.findings if finding.kind.grade != "note"]
    assert found == []


@pytest.mark.parametrize("name", DATA)
def test_a_fault_in_the_data_is_named(make: Make, name: str) -> None:
    planted = DATA[name]
    config, folder = make(planted.kind)
    planted.spoil(config, folder)
    found = [finding.kind.code for finding in find(config, ("data",), 60).findings]
    assert planted.code in found


@pytest.mark.parametrize("name", TRAINING)
def test_a_fault_in_the_training_is_named(make: Make, name: str) -> None:
    planted = TRAINING[name]
    config, folder = make(planted.kind)
    config.backbone = BackboneConfig(name="checked_net")
    planted.spoil(config, folder)
    outcome = find(config, ("training",), 60)
    assert planted.code in [finding.kind.code for finding in outcome.findings], summary(outcome)
