"""The page of runs for boxes, masks and labels, and of runs that did not come far: well-formed, alone, and true."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import html5lib
import numpy as np
import pytest
from safetensors import safe_open

from tasks.config import Experiment, SourceConfig
from tasks.image_results import ImageResults
from tasks.report.blocks import Example, Examples, Figure, Figures, Page, Picture, Section, Table, Text
from tasks.report.chart import chart
from tasks.report.measures import measure_of
from tasks.report.numbers import metric
from tasks.report.render import render
from tests.tasks.report.conftest import box_results_of, random_boxes

LOADING = ("src", "srcset", "href", "xlink:href", "data", "action")
HEADINGS = ("Training", "Loss", "Gradient norm", "Waiting for data", "All metrics", "Settings", "Cost and environment")


class Loads(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: str) -> Loads:
    """Raise if the page is not well-formed, or needs anything from elsewhere."""
    html5lib.HTMLParser(strict=True).parse(page)
    found = Loads(page)
    assert "script" not in found.tags
    assert all(source.startswith(("#", "data:image/jpeg;base64,")) for source in found.sources), found.sources[:3]
    assert len(found.ids) == len(set(found.ids))
    targets = {source[1:] for source in found.sources if source.startswith("#")}
    assert targets <= set(found.ids)
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a trained run, to be written to."""
    return lambda run: Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("kind", ["boxes", "masks", "labels"])
def test_numbers_are_those_of_the_log(kind: str, request: pytest.FixtureRequest, command, copy) -> None:
    run = copy(request.getfixturevalue("trained" if kind == "boxes" else f"trained_{kind}"))
    said = command("report", run, "--draws", "30")
    assert said.code == 0, said.error
    assert f"written to {run / 'report.html'}" in said.out
    page = (run / "report.html").read_text()
    found = check(page)
    assert len(page) < 5e6
    for heading in HEADINGS:
        assert heading in found.text
    logged = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    rows = dict(re.findall(r'<th scope="row">([^<]+)</th><td>([^<]*)</td>', page.replace("<wbr>", "")))
    overall = {name.split("/", 1)[1]: value for name, value in logged.items() if name.count("/") == 1}
    assert {name: rows[name] for name in overall} == {name: metric(value) for name, value in overall.items()}
    assert page.count('src="data:image/jpeg') >= 2


def test_instances_are_measured_again_from_what_is_kept(
    tiny_instances: Experiment, written, command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    said = command("train", written(tiny_instances), "--out", run)
    assert said.code == 0, said.error
    results = ImageResults.load(run / "results" / "instances.safetensors")
    again = measure_of(results)(np.ones(len(results.images), np.int64))
    assert {"segm AP", "segm APm", "segm AP/red_cell", "AP", "AP/platelet"} <= again.keys()
    assert again == pytest.approx({name: results.metrics[name] for name in again}, abs=1e-12)
    assert command("report", run, "--draws", "20", "--images", "1").code == 0
    found = check((run / "report.html").read_text())
    assert "Confusion matrix, masks" in found.text
    # A mask of all boxes is perfect where the annotated masks are found: what is kept of them is theirs.
    truth = results.arrays["truth"]
    scores = np.linspace(0.5, 1, len(truth))
    found_again = np.column_stack([truth[:, :5], scores, truth[:, 5]])
    arrays = {**results.arrays, "found": found_again, "found_masks": results.arrays["truth_masks"]}
    perfect = measure_of(replace(results, arrays=arrays))(np.ones(len(results.images), np.int64))
    assert perfect["segm AP"] == perfect["AP"] == 1


def test_where_settings_come_from(tiny: Experiment, written, command, tmp_path: Path) -> None:
    tiny.runner.report, tiny.optimizer.momentum = True, 0.8
    said = command("train", written(tiny), "--optimizer.lr", "0.004", "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert f"report, to be opened in a browser: {tmp_path / 'run' / 'report.html'}" in said.out
    page = (tmp_path / "run" / "report.html").read_text()
    check(page)
    rows = re.findall(r'<th scope="row">([\w.]+)</th><td>([^<]*)</td><td>([^<]*)</td>', page.replace("<wbr>", ""))
    assert ("optimizer.lr", "0.004", "command line") in rows
    assert ("optimizer.momentum", "0.8", "config") in rows
    assert ("optimizer.weight_decay", "0.0001", "default") in rows
    assert ("heads.boxes.fpn_channels", "32", "config") in rows
    assert "--optimizer.lr 0.004" in page


def test_a_run_that_was_resumed_with_other_settings(trained: Path, command, copy) -> None:
    run = copy(trained)
    said = command("train", "--resume", run, "--schedule.epochs", "2")
    assert said.code == 0, said.error
    assert command("report", run, "--draws", "0", "--images", "0").code == 0
    page = (run / "report.html").read_text()
    assert "<dd>2 epochs</dd>" in page
    rows = re.findall(r'<th scope="row">([\w.]+)</th><td>([^<]*)</td><td>([^<]*)</td>', page.replace("<wbr>", ""))
    assert ("schedule.epochs", "2", "command line") in rows


@pytest.mark.slow
def test_several_heads_of_several_data_sets(tiny_sources: Experiment, written, command, tmp_path: Path) -> None:
    """Each head has a section, one that learns from two data sets one for each; as do results that are made again."""
    tiny_sources.data.sources["more"] = SourceConfig(root=tiny_sources.data.sources["objects"].root, heads=("boxes",))
    config, run = written(tiny_sources), tmp_path / "run"
    said = command("train", config, "--out", run)
    assert said.code == 0, said.error
    results = {"boxes@objects", "boxes@more", "masks", "labels"}
    assert {file.stem for file in (run / "results").iterdir()} == results
    said = command("report", run, "--draws", "20", "--images", "1")
    assert said.code == 0, said.error
    assert "evaluating it" not in said.out
    found = check((run / "report.html").read_text())
    assert {f"head-{name.replace('@', '-')}" for name in results} <= set(found.ids)
    assert "joint: mean" in found.text
    assert "cannot be shown" not in found.text
    kept = ImageResults.load(run / "results" / "boxes@more.safetensors")
    shutil.rmtree(run / "results")
    said = command("report", run, "--draws", "0", "--images", "0")
    assert "evaluating it" in said.out
    assert {file.stem for file in (run / "results").iterdir()} == results
    assert ImageResults.load(run / "results" / "boxes@more.safetensors").metrics == pytest.approx(kept.metrics)
    assert "several data sets" in command("report", run, "--data", tmp_path).complaint
    page = tmp_path / "data.html"
    said = command("browse", config, "--images", "2", "--epochs", "2", "--out", page)
    assert said.code == 0, said.error
    assert {"images-objects", "images-table", "images-more"} <= set(check(page.read_text()).ids)


def test_a_report_that_fails_is_a_warning(
    tiny: Experiment, written, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("tasks.report.report.write_report", fail)
    tiny.runner.report = True
    said = command("train", written(tiny), "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert "warning: no report was written (no ink)" in said.out
    assert not (tmp_path / "run" / "report.html").exists()


def test_results_that_are_not_kept_are_made_again(trained_labels: Path, command, copy) -> None:
    run = copy(trained_labels)
    file = run / "results" / "labels.safetensors"
    before = ImageResults.load(file)
    file.unlink()
    said = command("report", run, "--draws", "0", "--images", "0")
    assert said.code == 0, said.error
    assert "evaluating it" in said.out
    after = ImageResults.load(file)
    assert after.images == before.images
    assert after.metrics == pytest.approx(before.metrics)
    assert after.arrays["scores"] == pytest.approx(before.arrays["scores"])


def test_a_run_that_was_stopped_before_any_evaluation(trained: Path, command, copy) -> None:
    run = copy(trained)
    shutil.rmtree(run / "results")
    shutil.rmtree(run / "checkpoints")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"step": 3, "epo')  # cut off by a crash
    assert command("report", run).code == 0
    found = check((run / "report.html").read_text())
    assert "2 steps. Nothing has been evaluated yet." in found.text
    (run / "metrics.jsonl").unlink()
    (run / "starts.jsonl").unlink()
    assert command("report", run).code == 0
    assert "has not logged anything yet" in check((run / "report.html").read_text()).text


def test_data_that_are_gone_are_told(trained: Path, command, copy, tmp_path: Path) -> None:
    run = copy(trained)
    config = json.loads((run / "config.json").read_text())
    config["data"]["root"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    (run / "starts.jsonl").unlink()  # which would say where they were
    assert command("report", run, "--draws", "0").code == 0
    text = check((run / "report.html").read_text()).text
    assert "The worst images cannot be shown: data.root" in text
    assert "All metrics" in text


@pytest.mark.parametrize("name", ["boxes", "image"])
def test_names_are_escaped_and_nothing_found_is_fine(name: str, trained: Path, command, copy) -> None:
    run = copy(trained)
    kept = ImageResults.load(run / "results" / "boxes.safetensors")
    made = random_boxes(8) if name == "boxes" else box_results_of([], [], 3)
    ImageResults(**{**{f: getattr(made, f) for f in ImageResults.__slots__}, "step": kept.step}).save(run / "results")
    assert command("report", run, "--draws", "25").code == 0
    page = (run / "report.html").read_text()
    found = check(page)
    assert "<script>alert(1)</script>" in found.text
    assert "&lt;script&gt;" in page


def test_mistakes_are_one_line(command, trained_labels: Path, copy, tmp_path: Path) -> None:
    assert "no run there, since it has no config.json" in command("report", tmp_path).complaint
    run = copy(trained_labels)
    (run / "results" / "labels.safetensors").write_bytes(b"broken")
    assert "labels.safetensors: damaged" in command("report", run).complaint
    shutil.rmtree(run / "results")
    (tmp_path / "file").touch()
    told = command("report", trained_labels, "--out", tmp_path / "file" / "page.html", "--images", "0", "--draws", "0")
    assert "cannot be written" in told.complaint


def test_results_survive_the_disk(tmp_path: Path) -> None:
    made = random_boxes(4)
    made.save(tmp_path)
    read = ImageResults.load(tmp_path / "boxes.safetensors")
    for name in ("head", "kind", "split", "step", "labels", "images", "metrics", "lower", "main", "options"):
        assert getattr(read, name) == getattr(made, name)
    assert all((read.arrays[name] == own).all() for name, own in made.arrays.items())
    with safe_open(tmp_path / "boxes.safetensors", framework="numpy") as opened:
        assert set(opened.keys()) == {"image_ids", "sizes", "truth", "found"}
    assert [file.name for file in tmp_path.iterdir()] == ["boxes.safetensors"]


def test_every_block_is_well_formed() -> None:
    svg, other = (chart(lambda axes: axes.plot([1, 2], [3, 4], "o-")) for _ in range(2))
    assert "currentColor" in svg
    assert "xmlns" not in svg
    evil = '"><b onclick="x">&'
    picture = Picture("data:image/jpeg;base64,AA==", 4, 4, evil, evil)
    blocks = [
        Text(evil, quiet=True),
        Figures([Figure(evil, svg, evil, evil, [evil, "other"]), Figure(evil, other, evil)]),
        Table(evil, [evil, "b"], [[evil, evil]], evil),
        Examples(evil, [Example(evil, [picture], evil, ["odd one"])], evil, ["odd one"]),
    ]
    page = render(Page(evil, evil, {evil: evil}, [Section("a b", evil, blocks), Section("c", evil, [])], {evil: 1}))
    found = check(page)
    assert "b" not in found.tags
    assert "onclick" in found.text


def test_a_damaged_start_is_told(trained_labels: Path, copy: Callable[[Path], Path], command) -> None:
    run = copy(trained_labels)
    (run / "starts.jsonl").write_text('{"device": "cpu"}\n')
    assert "starts.jsonl: its last line holds no config" in command("report", run).complaint
