"""Exported files give what PyTorch gives, describe themselves, and need no network code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from backbones import UserError
from tasks import load_model
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.found_labels import FoundLabels
from tasks.prediction.onnx_engine import KEY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def exported_labels(_exported: Path, trained_labels: Path, command) -> Path:
    """A classifier as ONNX; not to be written to."""
    file = _exported / "labels.onnx"
    if not file.exists():
        said = command("export", trained_labels, "--out", file, "--images", "2")
        assert said.code == 0, said.error
        assert "batches of any number, images of any size" in said.out
        assert "largest differences from PyTorch in 2 images" in said.out
    return file


def test_without_the_code_of_the_network(exported_labels: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Predictions from the command line, in a process that imports neither torch nor a head or a network."""
    code = (
        "import sys; sys.path.insert(0, '.'); from tasks.cli import predict, run\n"
        f"code = run(predict, [{str(exported_labels)!r}, {str(tiny_data / 'val')!r}, '--out', {str(tmp_path)!r}])\n"
        "names = {name.split('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'timm', 'heads', 'onnx'}\n"
        "names |= {'backbones.contract', 'backbones.resnet', 'tasks.model', 'tasks.checkpoint'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {names}' if names else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.jpg"))) == 4
    assert (tmp_path / "predictions.json").exists()


def test_any_number_of_images_of_any_size(exported_labels: Path, trained_labels: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, size, np.uint8) for size in ((64, 64, 3), (50, 90, 3), (130, 70, 3))]
    file, run = load_model(exported_labels), load_model(trained_labels, device="cpu")
    assert file.description.heads == run.description.heads
    assert file.description.image == run.description.image
    for one, own in zip(file.batch(images), images, strict=True):
        expected, found = run(own)["labels"], one["labels"]
        assert isinstance(expected, FoundLabels)
        assert isinstance(found, FoundLabels)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_the_file_is_plain_onnx(exported_labels: Path) -> None:
    model = onnx.load(exported_labels)
    onnx.checker.check_model(model)
    assert [one.name for one in model.graph.input] == ["images", "sizes"]
    assert [one.name for one in model.graph.output] == ["labels/scores"]
    assert {prop.key for prop in model.metadata_props} == {KEY}
    text = model.metadata_props[0].value
    assert "red_cell" not in text  # nothing but the classes of the head, and no path of the training machine
    assert "root" not in text


def test_a_file_that_lies_is_refused(
    exported_labels: Path, trained_labels: Path, command, tmp_path: Path, monkeypatch
) -> None:
    """With a weight changed, the command fails and says where and by how much."""
    import tasks.export.exporting as exporting

    def spoil(program: object, description: object, file: Path) -> None:
        model = onnx.load(exported_labels)
        (bias,) = [one for one in model.graph.initializer if list(one.dims) == [2]][:1]
        values = onnx.numpy_helper.to_array(bias) + np.array([0.5, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(model, file)

    monkeypatch.setattr(exporting, "write_onnx", spoil)
    monkeypatch.setattr(exporting, "export_program", lambda *_: None)
    complaint = command("export", trained_labels, "--out", tmp_path / "x.onnx", "--images", "2").complaint
    assert "does not give what PyTorch gives in 2 of 2 images: labels/scores differs by" in complaint
    assert ".png (tolerance 0.001)" in complaint


@pytest.mark.slow
def test_eight_bits_tell_what_they_cost(trained_labels: Path, command, tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    said = command(
        "export", trained_labels, "--out", file, "--precision", "int8", "--calibration", "4", "--images", "2"
    )
    assert said.code == 0, said.error
    assert "labels/accuracy" in said.out
    assert "lost" in said.out
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(file).graph.node)
    whole = sum(
        len(one.raw_data) for one in onnx.load(file).graph.initializer if one.data_type == onnx.TensorProto.FLOAT
    )
    assert whole < 0.1 * file.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp16"), ("onnx", "int8"), ("torch", "fp32")])
def test_a_detector_in_other_forms(format: str, precision: str, trained: Path, command, tmp_path: Path) -> None:
    file = tmp_path / f"x{'.onnx' if format == 'onnx' else '.pt2'}"
    arguments = ["--format", format, "--precision", precision, "--out", file, "--images", "4", "--calibration", "4"]
    said = command("export", trained, *arguments)
    assert said.code == 0, said.error
    assert ("boxes/AP50" in said.out) == (precision != "fp32")
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, size, np.uint8) for size in ((64, 64, 3), (50, 90, 3))]
    for one in load_model(file).batch(images):
        boxes = one["boxes"]
        assert isinstance(boxes, FoundBoxes)
        assert len(boxes)
        assert (boxes.boxes[:, 2:] <= np.array(one.size[::-1]) + 1e-3).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "bf16"], "precision is bf16; format onnx has fp32, fp16, int8"),
        (["--format", "torch", "--precision", "int8"], "precision is int8; format torch has fp32, bf16"),
        (["--data", "nowhere"], "data is nowhere, which does not exist"),
    ],
)
def test_what_cannot_be_exported(arguments: list[str], message: str, trained_labels: Path, command) -> None:
    assert message in command("export", trained_labels, *arguments).complaint


def test_files_that_are_no_exports(tmp_path: Path, exported_labels: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "missing.onnx")
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="onnxruntime cannot load it"):
        load_model(tmp_path / "x.onnx")
    model = onnx.load(exported_labels)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="does not describe its classes and images"):
        load_model(tmp_path / "other.onnx")
    (tmp_path / "x.pt2").write_bytes(b"nothing")
    with pytest.raises(UserError, match="torch cannot load it"):
        load_model(tmp_path / "x.pt2")
    with pytest.raises(UserError, match="device is mps"):
        load_model(exported_labels, device="mps")


def test_boxes_in_bf16_are_refused(trained: Path, command) -> None:
    complaint = command("export", trained, "--format", "torch", "--precision", "bf16").complaint
    assert "the head 'boxes' finds boxes: torch cannot read back such a program" in complaint
