"""The tool on runs for boxes, masks and labels: what it writes, and what it says to a mistake."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.config import DataConfig, Experiment
from tasks.explanation.explaining import heat_in_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """`run(kind)`: a trained run of that kind; not to be written to."""
    return lambda kind: request.getfixturevalue("trained" if kind == "boxes" else f"trained_{kind}")


@pytest.fixture
def image(tiny_data: Path) -> Path:
    return sorted((tiny_data / "val").glob("*.png"))[0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("boxes", ("--threshold", "0")),
        ("masks", ("--classes", "red_cell", "--method", "gradcam++", "--level", "c4")),
        ("masks", ("--classes", "red_cell", "--region", "8", "8", "40", "40")),
        ("labels", ()),
        ("labels", ("--method", "integrated_gradients")),
    ],
)
def test_a_sheet_for_each_image(command, run, image: Path, tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    said = command("explain", run(kind), image, *options, "--out", tmp_path / "out")
    assert said.code == 0, said.error
    assert f"1 pictures: {tmp_path}/out" in said.out
    (written,) = (tmp_path / "out").glob("*.png")
    sheet = cv2.imread(str(written))
    assert sheet is not None
    panels = {"boxes": 4, "masks": 2, "labels": 2}[kind]
    assert sheet.shape[1] >= panels * 640
    # All of it is in colour but for the image itself; a map of nothing would leave the panel grey.
    second = sheet[40:600, 660:1260].astype(int)
    assert np.ptp(second, axis=2).max() > 60


def test_a_single_image_of_16_bits(command, tiny_labels: Experiment, tiny_data: Path, tmp_path: Path) -> None:
    """Trained and explained in their depth, by way of the same reader as in training."""
    tiny_labels.image.bit_depth = 16
    (tmp_path / "tiny.json").write_text(tiny_labels.model_dump_json())
    assert command("train", tmp_path / "tiny.json", "--out", tmp_path / "run").code == 0
    deep = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    said = command("explain", tmp_path / "run", tmp_path / "deep.png", "--out", tmp_path / "out")
    assert said.code == 0, said.error
    assert len(list((tmp_path / "out").glob("deep_00001.png"))) == 1


def test_heat_lies_in_the_part_that_the_network_was_given() -> None:
    import torch

    config = DataConfig(size=(32, 32), center_crop=(16, 16))
    heat = heat_in_image(torch.full((16, 16), 3.0), "gradcam", (64, 128), config)
    assert heat.shape == (64, 128)
    assert heat[17:47, 34:94].min() == 1
    assert heat[:15].max() == heat[:, :30].max() == heat[49:].max() == heat[:, 98:].max() == 0


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("labels", ("--classes", "nobody"), "classes has 'nobody'; expected names of the run: "),
        ("labels", ("--level", "c7"), "levels has 'c7'; expected levels of the backbone: c1, c2, c3, c4, c5"),
        ("labels", ("--level", "c4", "c5"), "only layercam fuses levels; give gradcam one"),
        ("labels", ("--level", "c5", "--method", "integrated_gradients"), "looks at the image itself"),
        ("labels", ("--region", "0", "0", "9", "9"), "region is for masks"),
        ("labels", ("--head", "masks"), "head is 'masks'; expected one of those of the run: labels"),
        ("labels", ("--top", "0"), "top is 0; expected 1 or more"),
        ("labels", ("--method", "magic"), "magic"),
        ("masks", ("--region", "9", "9", "0", "0"), "region is 9 9 0 0; expected left top right bottom"),
        ("masks", ("--classes", "red_cell", "--region", "90", "90", "99", "99"), "lies outside an image of 64 x 64"),
        ("boxes", ("--threshold", "1"), "no box scores 1; try a lower --threshold"),
    ],
)
def test_a_mistake_is_one_line(
    command, run, image: Path, tmp_path: Path, kind: str, options: tuple[str, ...], told: str
) -> None:
    assert told in command("explain", run(kind), image, "--out", tmp_path / "out", *options).complaint


@pytest.mark.parametrize("tool", ["explain", "predict"])
def test_a_folder_that_cannot_be_made(command, trained_labels: Path, image: Path, tmp_path: Path, tool: str) -> None:
    (tmp_path / "file").touch()
    told = command(tool, trained_labels, image, "--out", tmp_path / "file").complaint
    assert told.endswith(f"{tmp_path / 'file'}: cannot be written (File exists); choose another --out")


def test_no_images(command, trained_labels: Path, tmp_path: Path) -> None:
    assert "no images given after the run" in command("explain", trained_labels, "--out", tmp_path / "out").complaint
    assert "no image there" in command("explain", trained_labels, tmp_path / "none.png").complaint


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); from tasks.cli import explain, run; run(explain, ['--help'])\n"
        "heavy = {'torch', 'torchvision', 'matplotlib', 'cv2', 'accelerate'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--method" in done.stdout
