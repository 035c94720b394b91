"""What docs/tutorial.md and docs/medical.md tell to do works as printed, one line after the other."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
# Shorter than what a person would train, and without the network.
QUICK = {
    "train.py": ["--backbone.weights", "None", "--backbone.norm", "bn", "--schedule.epochs", "1"],
    "cross_validate.py": ["--backbone.weights", "None", "--backbone.norm", "bn", "--schedule.epochs", "1"],
    "check.py": ["--backbone.weights", "None", "--backbone.norm", "bn", "--seconds", "20"],
    "browse.py": ["--backbone.weights", "None"],
}


def steps(page: str) -> Iterator[list[str]]:
    """The commands of a page, blocks of Python as `python -c`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            yield [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{block}"]
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            assert words[:1] == ["python"], line
            tool = words[1].removeprefix("tools/")
            quick = [] if "--resume" in words else QUICK.get(tool, [])
            yield [sys.executable, str(ROOT / words[1]), *words[2:], *quick]


def serve(command: list[str], folder: Path) -> None:
    """A server answers until Ctrl-C stops it."""
    words = [command[0], "-u", *command[1:], "--port", "0"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://localhost:\d+", line)))
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def follow(page: str, folder: Path) -> None:
    for command in steps(page):
        if command[1].endswith("serve.py"):
            serve(command, folder)
            continue
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        # A check may well find that one epoch does not learn much, but not that something is broken.
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.slow
def test_tutorial(tmp_path: Path) -> None:
    follow("tutorial.md", tmp_path)
    assert (tmp_path / "runs" / "cells" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "cells.html").exists()
    assert list((tmp_path / "found").iterdir())
    assert list((tmp_path / "found_by_file").iterdir())


@pytest.mark.slow
def test_medical(tmp_path: Path) -> None:
    write_scans(tmp_path / "scans")
    follow("medical.md", tmp_path)
    assert (tmp_path / "runs" / "folds" / "fold_1" / "report.html").exists()


def write_scans(folder: Path) -> None:
    """DICOM slices of 12 bits with a bright disc in each, its mask as PNG, and the table that docs/medical.md shows."""
    import cv2
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    random = np.random.default_rng(0)
    lines = ["image,mask,group,split"]
    for patient in range(1, 9):
        place = folder / f"p{patient:02}"
        place.mkdir(parents=True)
        for number in (1, 2):
            mask = np.zeros((64, 64), np.uint8)
            cv2.circle(mask, tuple(int(at) for at in random.integers(20, 44, 2)), int(random.integers(6, 14)), 1, -1)
            pixels = (random.normal(900, 60, mask.shape) + 600.0 * mask).clip(0, 4095).astype(np.uint16)
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            name = place / f"slice_{number}"
            data = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
            data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            data.Rows, data.Columns, data.SamplesPerPixel = 64, 64, 1
            data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
            data.PixelSpacing, data.PixelData = [0.7, 0.7], pixels.tobytes()
            data.save_as(f"{name}.dcm", enforce_file_format=True)
            cv2.imwrite(f"{name}.png", mask)
            split = "val" if patient > 6 else "train"
            lines.append(f"p{patient:02}/slice_{number}.dcm,p{patient:02}/slice_{number}.png,p{patient:02},{split}")
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
