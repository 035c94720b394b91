"""Every block of code in the README and the pages is run by a test, parsed by one, or named here with the reason."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest

from configs.multi.cells_r18 import config as several_heads
from tasks import config
from tasks.arguments import CrossValidateArguments, TrainArguments
from tasks.benchmark.arguments import BenchmarkArguments
from tasks.command_line import parse
from tasks.depth_study.arguments import StudyDepthArguments
from tasks.experiment_file import read_experiment
from tasks.image_spec import ImageSpec
from tasks.report.arguments import BrowseArguments
from tasks.serving.arguments import ServeArguments
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": ROOT / "README.md", **{file.name: file for file in sorted((ROOT / "docs").glob("*.md"))}}
# Followed from the first line to the last by tests/test_docs_pages.py, test_docs_heads.py and test_readme.py.
RUN_ELSEWHERE = {("tutorial.md", ""), ("medical.md", ""), ("heads.md", ""), ("README.md", "python")}
FOLLOWED = {
    *("README.md", "predicting.md", "export.md", "reports.md", "several_heads.md", "checking.md", "data.md"),
    "weights.md",
}
ARGUMENTS: dict[str, Any] = {
    "train": TrainArguments,
    "cross_validate": CrossValidateArguments,
    "browse": BrowseArguments,
    "benchmark": BenchmarkArguments,
    "serve": ServeArguments,
    "study_depth": StudyDepthArguments,
}
# What only installs or tests this repository, or asks a server, as tests/tasks/serving does.
NOT_OURS = ("pip install", "POLYHEAD_DATA=", "curl ", "python -m tests.")
# Their arguments are read and no more: they need several machines, reference data, others' files, or many minutes, or
# do not end.
ONLY_READ = (
    *(
        "torchrun",
        "tools/train_on_ray.py",
        "tools/serve.py",
        "tools/benchmark.py",
        "tools/study_depth.py",
        ".pkl",
        "1x_coco.pth",
    ),
    *(".pkl", "1x_coco.pth", "BCCD", "pneumonia28", "isbi2012", "--data.root nuclei"),
)
# Less than what a person would train, and without the network.
TRAINING = (
    *("--schedule.steps 2", "--schedule.policy constant", "--schedule.warmup_steps 0", "--data.batch_size 2"),
    *("--data.workers 0", "--backbone.name resnet18", "--backbone.weights None", "--backbone.norm bn"),
    *("--runner.no-report", "--runner.pictures 2"),
)
QUICK = {
    "train": TRAINING,
    "cross_validate": (*TRAINING, "--inference.window None", "--data.augment.crop None"),
    "check": ("--backbone.name resnet18", "--backbone.weights None", "--backbone.norm bn", "--seconds 5"),
    "browse": ("--backbone.weights None", "--images 4"),
    "export": ("--images 2", "--calibration 2"),
    "report": ("--draws 20", "--images 1"),
    "compare": ("--draws 100",),
}
# What stands for a thing of the reader's, beside the files that a scene sets up.
INSTEAD = {
    "CONFIG": "configs/cls/finetune_r50.py --data.root my_labels",
    "FILE.pth": "written.pth",
    "FILE": "resnet18.pth",
    "RUN": "runs/labels",
    "--step 120": "--step 1",
    "--data.augment.close_mosaic 2": "--data.augment.close_mosaic 0",  # of 2 steps
    "configs/cls/finetune_r50.py --data.root my_data": "configs/cls/finetune_r50.py --data.root my_labels",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of the fenced blocks of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page].read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Commands of the blocks of a page, one after the other."""
    lines = [re.sub(r"\\\n\s*", "", block).splitlines() for language, block in blocks(page) if language == "bash"]
    return [line for own in lines for line in own if not any(word in line for word in NOT_OURS)]


def only_read(line: str) -> bool:
    return any(word in line for word in ONLY_READ)


def words_of(line: str) -> tuple[str, list[str]]:
    """The name of a command and its words, of `python tools/NAME.py WORDS`; what launches it is left out."""
    words = shlex.split(line, comments=True)
    if "--" in words:  # tools/train_on_ray.py launches what tools/train.py takes
        return "train", words[words.index("--") + 1 :]
    place = next(number for number, word in enumerate(words) if word.startswith("tools/"))
    return words[place].removeprefix("tools/").removesuffix(".py"), words[place + 1 :]


def quick(name: str, words: list[str]) -> list[str]:
    """What makes a command quick, without what it says itself."""
    if "--resume" in words or "--help" in words:
        return []
    size = "--data.short_side 64 --data.long_side 64" if "configs/det" in " ".join(words) else "--data.size 64 64"
    more = [*QUICK.get(name, ()), *[size] * (name in ("train", "cross_validate", "check"))]
    return [word for option in more if option.split()[0] not in words for word in option.split()]


def follow(page: str, command: Command) -> None:
    """Run the commands of a page, from the first to the last, in the working directory."""
    for line in commands(page):
        if only_read(line):
            continue
        for thing, instead in INSTEAD.items():
            line = re.sub(rf"(?<![\w/.]){re.escape(thing)}(?![\w/.])", instead, line)
        name, words = words_of(line)
        said = command(name, *words, *quick(name, words))
        assert said.code == 0, f"{line}\n{said.out[-2000:]}\n{said.error}"


@pytest.fixture
def scene(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data of the reader's: `my_data` with boxes and masks, `my_labels`, folders of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYHEAD_CACHE", str(tmp_path / "cache"))
    for name in ("configs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(tiny_data, "my_data")
    images = sorted(tiny_data.glob("train/*.png"))
    for split, chosen in {"train": images[:6], "val": images[6:8], "test": images[8:]}.items():
        for number, image in enumerate(chosen):
            folder = tmp_path / "my_labels" / split / ("few", "many")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
    for name in ("images", "my_images"):
        shutil.copytree(tiny_data / "val", name)
    return tmp_path


@pytest.mark.slow
def test_readme(scene: Path, command: Command) -> None:
    first = "python tools/train.py configs/cls/finetune_r50.py --data.root my_labels"
    name, words = words_of(first)
    assert command(name, *words, *quick(name, words)).code == 0  # the second run that it compares
    follow("README.md", command)


@pytest.mark.slow
def test_predicting(scene: Path, command: Command, trained: Path) -> None:
    shutil.copytree(trained, "runs/x")
    assert command("export", "runs/x").code == 0
    frame = cv2.imread(str(next(scene.glob("images/*.png"))))
    film = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, frame.shape[1::-1])
    for _ in range(3):
        film.write(frame)
    film.release()
    cv2.imwrite("slide.tif", cv2.resize(frame, (700, 700)))
    cv2.imwrite("image.jpg", frame)
    follow("predicting.md", command)
    run_python("predicting.md")


@pytest.mark.slow
def test_export(scene: Path, command: Command, trained_labels: Path) -> None:
    shutil.copytree(trained_labels, "runs/x")
    follow("export.md", command)


@pytest.mark.slow
def test_reports(scene: Path, command: Command, trained: Path) -> None:
    for name in "xyz":
        shutil.copytree(trained, f"runs/{name}")
    follow("reports.md", command)


@pytest.mark.slow
def test_several_heads(scene: Path, command: Command) -> None:
    follow("several_heads.md", command)
    run_python("several_heads.md")


@pytest.mark.slow
def test_checking(scene: Path, command: Command) -> None:
    follow("checking.md", command)


@pytest.mark.slow
def test_data(scene: Path, command: Command) -> None:
    lines = ["scan,grade,patient"]
    for number, image in enumerate(sorted(scene.glob("my_data/train/*.png"))):
        lines.append(f"{image.relative_to(scene)},{number % 3},p{number // 2}")
    Path("visits.csv").write_text("\n".join(lines) + "\n")
    follow("data.md", command)
    run_python("data.md")


@pytest.mark.slow
def test_weights(scene: Path, command: Command) -> None:
    words = ["configs/cls/finetune_r50.py", "--data.root", "my_labels", "--out", "runs/labels"]
    assert command("train", *words, *quick("train", words)).code == 0
    assert command("export_weights", "runs/labels", "--layout", "torchvision", "--out", "resnet18.pth").code == 0
    follow("weights.md", command)


def run_python(page: str) -> None:
    """Run the blocks of Python of a page, with what a config has imported."""
    for language, block in blocks(page):
        if language == "python":
            exec(block, {"Path": Path, "ImageSpec": ImageSpec, **vars(config), "cfg": several_heads()})


@pytest.mark.parametrize("page", PAGES)
def test_arguments_are_understood(page: str, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of commands that are not run here: every option exists, and takes its value."""
    for line in filter(only_read, commands(page)):
        name, words = words_of(line)
        kind = ARGUMENTS[name]
        plain = name in ("benchmark", "serve")
        assert parse(kind, words, None if plain else kind(experiment=read_experiment(Path(words[0])).experiment))


def test_every_block_is_run() -> None:
    """A page with commands or Python has a test that follows it; others are output, or files."""
    followed = {*RUN_ELSEWHERE, *((page, "") for page in FOLLOWED)}
    for page in PAGES:
        languages = {language for language, _ in blocks(page)} - {"", "json"}
        assert languages <= {"bash", "python"}, page
        to_run = {"python"} & languages | {"bash" for line in commands(page) if not only_read(line)}
        assert {language for language in to_run if not {(page, language), (page, "")} & followed} == set(), page
