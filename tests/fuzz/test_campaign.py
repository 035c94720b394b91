"""A bounded part of the campaign, other inputs each time hypothesis looks for some; and the campaign finds defects."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.data.formats.coco import CocoFolder
from tests.fuzz.campaign import Findings, _give, campaign
from tests.fuzz.targets import targets

NAMES = (
    "coco", "voc", "csv", "masks", "npz", "image.png", "image.jpg", "image.tif", "image.bmp", "image.webp",
    "weights new.pth", "weights old.pth", "weights blobs.pkl", "config.json", "options", "checkpoint", "boxes",
    "matcher", "windows",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("ignore")  # of decoders about what is damaged
@pytest.mark.parametrize("name", NAMES)
def test_spoilt_inputs_work_or_are_refused_in_one_line(name: str, folder: Path) -> None:
    target = targets(folder / name.replace(" ", "_"))[name]
    findings = Findings()

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 1 << 40))
    def give(number: int) -> None:
        _give(findings, name, target, 0, number)
        assert findings.found == {}

    give()
    assert findings.worked.total() + findings.refused.total() >= 40


def test_all_targets_are_tested(folder: Path) -> None:
    assert set(targets(folder / "all")) == set(NAMES)


def test_a_defect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CocoFolder) -> list[str]:
        raise KeyError("x")

    monkeypatch.setattr(CocoFolder, "splits", fail)
    findings = campaign(3, only="coco")
    assert findings.counts.total() == 3
    (told,) = findings.found.values()
    assert told.startswith("--only 'coco' --first 0: ")
    assert "KeyError at " in told
