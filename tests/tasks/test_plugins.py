"""Networks and heads of other people: by entry point from an installed package, and by decorator from a config."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backbones import UserError, backbones

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

NET = """
import torch
from torch import nn

from backbones import Backbone, FeatureSpec, register_backbone


{decorator}
class MyNet(Backbone):
    def __init__(self, in_channels=3, width=8):
        super().__init__()
        self.in_channels = in_channels
        self.features = {{f"c{{level}}": FeatureSpec(width, 2**level) for level in range(2, 6)}}
        self.stem = nn.Conv2d(in_channels, width, 7, stride=4, padding=3)
        self.downs = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, images):
        maps = [self.stem(images)]
        for down in self.downs:
            maps.append(down(maps[-1].relu()))
        return dict(zip(self.features, maps))
"""

HEAD = '''
import torch
from torch import nn

from heads import Detections, Head, register_head


{decorator}
class MyHead(Head):
    """One box in the middle of each image; learns how many objects there are."""

    reads = "boxes"

    def __init__(self, features, num_classes, *, gain=1.0):
        super().__init__()
        self.gain = gain
        self.count = nn.Linear(features["c5"].channels, num_classes)

    def loss(self, features, images, targets):
        counts = nn.functional.one_hot(targets.boxes.labels + 1, self.count.out_features + 1).sum(1)[:, 1:]
        error = self.count(features["c5"].mean((2, 3))) - self.gain * counts
        return {{"loss_count": error.square().mean()}}

    def predict(self, features, images):
        counts = self.count(features["c5"].mean((2, 3)))
        found = []
        for (height, width), count in zip(images.original.tolist(), counts):
            box = torch.tensor([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], device=count.device)
            score, label = count.softmax(0).max(0)
            found.append(Detections(box, score[None], label[None]))
        return found
'''

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "my-vision"
version = "1.0"

[project.entry-points."polyhead.backbones"]
my_net = "my_vision.net:MyNet"

[project.entry-points."polyhead.heads"]
my_head = "my_vision.head:MyHead"

[tool.setuptools]
packages = ["my_vision"]
"""

CONFIG = """
from tasks.config import *


def config():
    return Experiment(
        name="mine",
        backbone=BackboneConfig(name="{backbone}"),
        heads={{"count": PluginHeadConfig(name="{head}", options={options})}},
        data=DataConfig(batch_size=2, short_side=(64,), long_side=64, workers=0),
        optimizer=OptimizerConfig(lr=1e-4),
        schedule=ScheduleConfig(epochs=2, warmup_steps=2),
        runner=RunnerConfig(device="cpu", log_every=1, pictures=2),
    )
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with my-vision in it, put there by pip, offline."""
    source, site = tmp_path_factory.mktemp("my_vision"), tmp_path_factory.mktemp("site")
    package = source / "my_vision"
    package.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(NET.format(decorator=""))
    (package / "head.py").write_text(HEAD.format(decorator=""))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True)
    return site


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a tool from a folder outside the repository."""

    def run(name: str, *arguments: str | Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"PYTHONPATH": str(site)} if site else {})}
        return subprocess.run(
            [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_backbone_by_entry_point(tool, site: Path, tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(tiny.model_dump_json())
    done = tool("train.py", "config.json", "--out", "run", "--backbone.name", "my_net", site=site)
    assert done.returncode == 0, done.stderr
    # The config's own backbone had an option that this one does not know.
    assert "backbone my_net: left out norm=gn" in done.stdout
    assert tool("evaluate.py", "run", site=site).returncode == 0
    assert "my_net" in tool("list.py", "backbones", site=site).stdout
    # Without the package the run says what it lacks.
    gone = tool("evaluate.py", "run")
    assert gone.returncode == 2
    assert gone.stderr.startswith("error: backbone 'my_net' is not registered")


def test_head_by_entry_point(tool, site: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CONFIG.format(backbone="my_net", head="my_head", options={"gain": 0.5}))
    done = tool("train.py", "mine.py", "--out", "run", "--data.root", tiny_data, site=site)
    assert done.returncode == 0, done.stderr
    assert "count/loss_count" in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert tool("predict.py", "run", tiny_data / "val", "--out", "found", site=site).returncode == 0
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 4
    resumed = tool("train.py", "--resume", "run", "--schedule.epochs", "3", site=site)
    assert resumed.returncode == 0, resumed.stderr


def test_both_by_decorator_in_a_config(tool, tiny_data: Path, tmp_path: Path) -> None:
    net, head = (
        NET.format(decorator='@register_backbone("our_net")'),
        HEAD.format(decorator='@register_head("our_head")'),
    )
    (tmp_path / "ours.py").write_text(net + head + CONFIG.format(backbone="our_net", head="our_head", options={}))
    done = tool("train.py", "ours.py", "--out", "run", "--data.root", tiny_data)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("backbone", "head", "options", "held"),
    [
        ("my_nett", "my_head", {}, ["backbone 'my_nett' is not registered", "did you mean", "my_net"]),
        ("my_net", "my_haed", {}, ["head 'my_haed' is not registered", "did you mean", "my_head"]),
        ("my_net", "my_head", {"gian": 2}, ["head 'my_head'", "gian", "it takes my_head(", "gain=1.0"]),
    ],
)
def test_near_names_and_signatures(
    backbone: str,
    head: str,
    options: dict[str, int],
    held: list[str],
    tool,
    site: Path,
    tiny_data: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(CONFIG.format(backbone=backbone, head=head, options=options))
    done = tool("train.py", "mine.py", "--out", "run", "--data.root", tiny_data, site=site)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert [words for words in held if words not in done.stderr] == [], done.stderr


def test_broken_entry_point_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = next(site.glob("my_vision-*.dist-info")) / "entry_points.txt"
    before = points.read_text()
    try:
        points.write_text("[polyhead.backbones]\nbroken_net = my_vision.nothing:Net\n")
        monkeypatch.syspath_prepend(site)
        with pytest.raises(UserError, match=r"broken_net.*my_vision\.nothing:Net failed to load \(ModuleNotFoundError"):
            backbones.build("broken_net")
    finally:
        points.write_text(before)
