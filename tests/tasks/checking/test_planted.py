"""Faults that people make are named, and what is right is not called wrong."""

import pytest

from tasks.checking.checking import find
from tests.tasks.checking.conftest import Make
from tests.tasks.checking.planted import DATA


@pytest.mark.parametrize("kind", ["boxes", "masks", "labels"])
def test_nothing_is_found_in_what_is_right(make: Make, kind: str) -> None:
    outcome = find(make(kind)[0], ("data", "training"), 60)
    assert [(finding.kind.code, finding.seen) for finding in outcome.findings] == []


@pytest.mark.parametrize("name", DATA)
def test_a_fault_in_the_data_is_named(make: Make, name: str) -> None:
    planted = DATA[name]
    config, folder = make(planted.kind)
    planted.spoil(config, folder)
    found = [finding.kind.code for finding in find(config, ("data",), 60).findings]
    assert planted.code in found
