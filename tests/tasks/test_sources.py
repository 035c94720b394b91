"""Runs that learn from several data sets: what each head learns from and is scored on, and mistakes in saying so."""

import json
from pathlib import Path

import pytest
import torch

from tasks.checkpoint import load_checkpoint
from tasks.config import ClassificationConfig, Experiment, FasterRCNNConfig, SourceConfig
from tasks.data.loader import TrainingLoader
from tasks.model import build_model
from tasks.sources import open_sources, source_labels, training_data
from tests.conftest import SMALL_DETECTOR


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources") / "run"


@pytest.fixture
def run(_trained: Path, tiny_sources: Experiment, written, command) -> Path:
    """A run of `tiny_sources`: not to be written to."""
    if not _trained.exists():
        said = command("train", written(tiny_sources), "--out", _trained)
        assert said.code == 0, said.error
        assert "an epoch takes 20 images: 10 of objects (10), 10 of table (10)" in said.out
        assert "objects: " in said.out
    return _trained


def test_all_heads_learn_and_are_scored(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record["losses"] for record in records if "losses" in record]
    assert len(steps) == 10
    for name in ("boxes/loss_rpn_objectness", "masks/cross_entropy", "labels/loss_cross_entropy"):
        values = [losses[name] for losses in steps]
        assert any(values)
        if name.startswith("labels"):
            assert not all(values), "in some batch of two all images are of the other source"
    metrics = records[-1]["metrics"]
    assert {name.split("/")[0] for name in metrics} == {"boxes", "masks", "labels", "joint"}
    main = [metrics[name] for name in ("boxes/AP", "masks/Dice", "labels/balanced_accuracy")]
    assert metrics["joint/mean"] == pytest.approx(sum(max(value, 0) for value in main) / 3)
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert (best["metric"], best["value"]) == ("joint/mean", metrics["joint/mean"])
    assert {name: len(classes) for name, classes in load_checkpoint(run, prefer_best=True).labels.items()} == {
        "boxes": 3,
        "masks": 3,
        "labels": 2,
    }
    assert {folder.name for folder in (run / "pictures").iterdir()} == {"objects", "table"}


def test_scored_again_whole_and_by_heads(run: Path, command, tmp_path: Path) -> None:
    for name, only in (("all", []), ("labels", ["--only", "labels"])):
        said = command("evaluate", run, "--out", tmp_path / name, *only)
        assert said.code == 0, said.error
    whole, alone = (json.loads((tmp_path / name).read_text()) for name in ("all", "labels"))
    trained = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]["metrics"]
    assert whole == pytest.approx(trained)
    assert alone == pytest.approx({name: value for name, value in whole.items() if name.startswith("labels/")})


def test_images_of_other_sources_teach_a_head_nothing(tiny_sources: Experiment) -> None:
    """Losses of a mixed batch are those of its own images alone."""
    tiny_sources.data.batch_size = 8
    sources, _ = open_sources(tiny_sources)
    model = build_model(tiny_sources, source_labels(sources)).eval()
    loader = TrainingLoader(
        training_data(tiny_sources, sources), tiny_sources.data, tiny_sources.image, seed=0, divisor=model.divisor
    )
    ((batch,), *_) = loader.steps(0)
    assert batch.fed is not None
    whole = model(batch)
    for head, column in (("boxes", 0), ("masks", 1), ("labels", 2)):
        rows = batch.fed[:, column].nonzero()[:, 0]
        assert 0 < len(rows) < 8
        alone = model(batch.take(rows))
        for name, loss in whole.items():
            if name.startswith(f"{head}/"):
                torch.testing.assert_close(loss, alone[name], rtol=1e-4, atol=1e-6)
    # And where none is its own, it adds zero to the gradients of its weights, and does have some.
    model.train()
    losses = model(batch.take((~batch.fed[:, 2]).nonzero()[:, 0]))
    assert losses["labels/loss_cross_entropy"] == 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.heads["labels"].parameters())


def test_heads_of_one_kind_with_other_classes(
    tiny_sources: Experiment, tiny_labels, command, written, tmp_path
) -> None:
    """A class from one source, numbers from another, of the same images; each source has its own heads."""
    sources = tiny_sources.data.sources
    tiny_sources.heads = {"class": ClassificationConfig(), "count": ClassificationConfig(target="regression")}
    sources["objects"].heads, sources["objects"].count_objects = ("count",), "each"
    sources["table"].heads = ("class",)
    said = command("train", written(tiny_sources), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    labels = load_checkpoint(tmp_path / "run", prefer_best=True).labels
    assert labels["count"].names == ("red_cell", "white_cell", "platelet")
    assert labels["class"].names == ("platelet", "white_cell")
    assert "MAE/platelet" in said.out or "count, by class" in said.out


def test_a_head_of_two_sources_is_scored_on_each(tiny_sources: Experiment, command, written, tmp_path: Path) -> None:
    tiny_sources.heads = {"boxes": FasterRCNNConfig.model_validate(SMALL_DETECTOR)}
    root = tiny_sources.data.sources["objects"].root
    tiny_sources.data.sources = {"one": SourceConfig(root=root), "two": SourceConfig(root=root, ratio=5)}
    said = command("train", written(tiny_sources), "--out", tmp_path / "run", "--data.sources.two.val", "train")
    assert said.code == 0, said.error
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][-1][
        "metrics"
    ]
    assert {name.split("/")[0] for name in metrics} == {"boxes@one", "boxes@two", "joint"}
    assert "an epoch takes 18 images: 12 of one (10), 6 of two (8)" in said.out  # "two" holds two images out


def test_a_head_is_added_from_its_own_source(run: Path, tiny_sources: Experiment, command, written, tmp_path) -> None:
    tiny_sources.model.weights, tiny_sources.model.train_only = run, ("labels",)
    tiny_sources.data.sources["objects"].root = Path("not there")
    said = command("train", written(tiny_sources), "--out", tmp_path / "run")
    assert "data.sources.objects.root is not there" in said.complaint
    del tiny_sources.data.sources["objects"]
    said = command("train", written(tiny_sources), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    before, after = (load_checkpoint(folder, prefer_best=False).tensors("model") for folder in (run, tmp_path / "run"))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"heads.labels.linear.weight", "heads.labels.linear.bias"}


MISTAKES = {
    "ratio of 0": (["--data.sources.table.ratio", "0"], ["data.sources.table.ratio is 0", "greater than 0"]),
    "ratio below 0": (["--data.sources.table.ratio=-1"], ["data.sources.table.ratio is -1"]),
    "share of no image": (["--data.sources.table.ratio", "0.01"], ["data.sources.table.ratio is 0.01", "20 images"]),
    "head": (
        ["--data.sources.table.heads", "lables"],
        ["data.sources.table.heads", "'lables'", "boxes, masks, labels"],
    ),
    "head without a source": (["--data.sources.table.heads", "boxes"], ["data.sources.table: ", "image_labels.csv"]),
    "head of no source": (["--data.sources.objects.heads", "boxes"], ["heads.masks: no source", ".heads"]),
    "source without targets": (
        ["--data.sources.objects.heads", "boxes", "masks", "labels"],
        ["data.sources.objects: ", "has no labels of whole images", "data.count_objects"],
    ),
    "place beside sources": (["--data.root", "."], ["data.root is .", "data.sources.objects.root"]),
    "folds": (["--data.folds", "3"], ["data.folds", "cannot be cross-validated"]),
    "field": (["--data.sources.table.roto", "x"], ["roto", "did you mean --data.sources"]),
    "monitor": (["--runner.monitor", "boxes/APP"], ["runner.monitor is 'boxes/APP'", "joint/mean"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, tiny_sources: Experiment, command, written, tmp_path: Path) -> None:
    arguments, words = MISTAKES[case]
    complaint = command("train", written(tiny_sources), "--out", tmp_path / "run", *arguments).complaint
    assert all(word in complaint for word in words), complaint


def test_other_classes_for_one_head(tiny_sources: Experiment, edit, command, written, tmp_path: Path) -> None:
    root = edit(lambda coco: coco["categories"][0].update(name="erythrocyte"))
    file = root / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"red_cell"', '"erythrocyte"'))
    tiny_sources.data.sources["other"] = SourceConfig(root=root, heads=("boxes",))
    complaint = command("train", written(tiny_sources), "--out", tmp_path / "run").complaint
    assert all(word in complaint for word in ["'boxes'", "'objects'", "1=red_cell", "'other'", "1=erythrocyte"]), (
        complaint
    )


def test_a_run_reports_on_all_its_sources(tiny_sources: Experiment, command, written, tmp_path: Path) -> None:
    said = command("train", written(tiny_sources), "--out", tmp_path / "run", "--runner.report")
    assert said.code == 0, said.error
    assert "no report was written" not in said.out
    page = next((tmp_path / "run").glob("*.html")).read_text()
    assert all(name in page for name in ("boxes: AP", "labels: balanced accuracy", "joint: mean"))
    pictures = sorted(file.name for file in (tmp_path / "run" / "pictures").rglob("*") if file.is_file())
    assert sum(name.endswith("_boxes.jpg") for name in pictures) == 2
    assert f"{len(pictures)} pictures of validation images" in said.out


def test_other_commands_take_one_data_set(tiny_sources: Experiment, command, written, tmp_path: Path) -> None:
    complaint = command("cross_validate", written(tiny_sources), "--out", tmp_path / "x", "--data.folds", "2").complaint
    assert "data.sources" in complaint


def test_the_name_of_the_mean_is_taken(tiny_sources: Experiment, command, written, tmp_path: Path) -> None:
    tiny_sources.heads["joint"] = tiny_sources.heads.pop("labels")
    tiny_sources.data.sources["table"].heads = ("joint",)
    complaint = command("train", written(tiny_sources), "--out", tmp_path / "run").complaint
    assert "heads.joint" in complaint
