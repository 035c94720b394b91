"""The benchmark end to end at a size at which times mean nothing: equal work, what is written, and mistakes."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from tasks.benchmark.floor import convolution_rate
from tasks.benchmark.models import measure_memory
from tasks.benchmark.process_memory import in_own_process
from tasks.benchmark.workloads import WORKLOADS, contestants
from tasks.machine import describe_machine
from tasks.multiply_adds import multiply_adds

QUICK = ("cifar", "unet")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WORKLOADS]
)
def test_contestants_do_the_same_work(name: str, command, tmp_path: Path) -> None:  # `command` resets accelerate
    losses = {}
    for label, build in contestants(name, 2, 64).items():
        (tmp_path / label).mkdir(parents=True)
        built = build(tmp_path / label)
        losses[label] = built.loss()
        built.train()
        assert built.loss() != losses[label], "a step changes the weights"
        built.infer()
    expected = losses.pop("polyhead fp32")
    if name == "detection":  # boxes are drawn by chance, and trainable norms give another loss
        losses = {label: loss for label, loss in losses.items() if label == "polyhead" or "frozen" in label}
        assert losses == pytest.approx(dict.fromkeys(losses, expected), rel=0.1)
        return
    for label, loss in losses.items():
        # DeepLabV3+ drops units by chance, and dilates the first block of a stage there.
        rough = label == "polyhead" or "bf16" in label or name == "deeplabv3plus"
        assert loss == pytest.approx(expected, rel=2e-2 if rough else 1e-4), label


def test_figures_are_written_with_the_machine(command, tmp_path: Path) -> None:
    out, page = tmp_path / "figures" / "cifar.json", tmp_path / "cifar.md"
    said = command(
        *("benchmark", "train", "--workload", "cifar", "--batch", "2", "--runs", "2", "--warmup", "1", "--no-memory"),
        *("--only", "polyhead fp32", "torchvision blocks default", "--out", out, "--markdown", page),
    )
    assert said.code == 0, said.error
    written = json.loads(out.read_text())
    (table,) = written["tables"]
    assert [row["name"] for row in table["rows"]] == ["polyhead fp32", "torchvision blocks default"]
    assert all(len(row["runs"]) == 2 and row["floor"] > 0 for row in table["rows"])
    assert written["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert written["machine"]["date"] in said.out
    shown = page.read_text()
    assert shown.startswith("```bash\npython tools/benchmark.py train ")
    assert "--only 'polyhead fp32' 'torchvision blocks default'" in shown
    assert f"| polyhead fp32 | {1000 * table['rows'][0]['seconds']:,.0f} |" in shown
    assert written["machine"]["processor"] in shown


def test_a_place_that_cannot_be_written_is_told_after_the_table(command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = command(
        *("benchmark", "infer", "--workload", "cifar", "--batch", "1", "--runs", "1", "--warmup", "0", "--no-memory"),
        *("--only", "torchvision blocks default", "--out", tmp_path / "file" / "figures.json"),
    )
    assert "cannot be written" in said.complaint
    assert "torchvision blocks default" in said.out


@pytest.mark.slow
def test_peak_memory_is_each_contestants_own() -> None:
    small, large = (
        in_own_process(measure_memory, "cifar", "torchvision blocks default", True, batch, 32) for batch in (2, 512)
    )
    assert 100 << 20 < small[1] <= small[0]
    # The maps of 512 images alone: 14 of 16 channels at 32 x 32 in fp32 are 460 MB.
    assert large[0] - large[1] > small[0] - small[1] + (300 << 20)


def test_multiply_adds_count_the_backward_pass() -> None:
    layer, x = torch.nn.Linear(8, 4, bias=False), torch.ones(2, 8, requires_grad=True)
    assert multiply_adds(lambda: layer(x)) == 2 * 8 * 4
    assert multiply_adds(lambda: torch.autograd.backward(layer(x).sum())) == 3 * 2 * 8 * 4
    assert convolution_rate(torch.float32, repeats=1) > 1e6


def test_the_machine_is_named() -> None:
    machine = describe_machine()
    assert {"date", "processor", "cores", "threads", "torch", "torchvision"} <= machine.keys()
    assert all(machine.values())
    root = Path(__file__).resolve().parents[3]
    if (root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        assert head.stdout.startswith(machine["commit"].removesuffix(" with changes"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("train --only detectron", "'polyhead', 'polyhead fp32', 'torchvision default'"),
        ("train --workload unet --peer timm", "--peer: 'timm' takes no part; expected some of 'smp'"),
        ("train --peer detectron2", "expected some of 'torchvision', 'smp', 'timm'"),
        ("eval --peer torchvision", "expected some of 'pycocotools', 'faster-coco-eval'"),
        ("train --runs 0", "--runs is 0"),
        ("train --side 0", "--side is 0"),
        ("fit --memory-limit plenty", "--memory-limit is 'plenty'; expected a size above 0 such as 8GiB"),
        ("train --memory-limit 8GiB", "--memory-limit means nothing to train; it is for fit"),
        ("eval --workload unet", "--workload means nothing to eval"),
        ("profile --peer timm", "--peer means nothing to profile"),
        ("profile --config configs/cls/mnist.py --side 64", "--side and --config are both given"),
        ("fit --root data", "--root is given without --config"),
        ("profile --config configs/cls/no_such.py", "no such config"),
        ("data --root no/such/folder", "--root is no/such/folder, which is no folder"),
    ],
)
def test_mistakes_are_told(arguments: str, told: str, command) -> None:
    assert told in command("benchmark", *arguments.split()).complaint
