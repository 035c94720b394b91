"""The rules of the house that a program can check: who imports whom, one training loop, short tools and configs."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("backbones", "heads", "tasks", "configs", "tools")
MAY_IMPORT = {
    "backbones": {"backbones"},
    "heads": {"heads", "backbones"},
    "tasks": {"tasks", "heads", "backbones"},
    "configs": {"configs", "tasks", "heads", "backbones"},
    "tools": {"tasks"},
}
# These look up the folder that the shipped configs lie in.
LOOK_UP_CONFIGS = {"tasks/experiment_file.py", "tasks/inventory.py"}


def files(*packages: str) -> list[Path]:
    found = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    assert len(found) >= len(packages)
    return found


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{relative(file)}:{node.lineno} is a relative import"
            assert node.module is not None
            yield node.lineno, node.module


def calls(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every call's function: `self.optimizer.step`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    wrong = [
        f"{relative(file)}:{line} imports {module}"
        for file in files(package)
        for line, module in imports(file)
        if module.split(".")[0] in (*PACKAGES, "tests")
        and module.split(".")[0] not in MAY_IMPORT[package]
        and not (module == "configs" and relative(file) in LOOK_UP_CONFIGS)
    ]
    assert wrong == []


@pytest.mark.parametrize("file", sorted(LOOK_UP_CONFIGS))
def test_configs_are_looked_up_and_not_used(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "configs"
    }
    assert used == {"__path__"}


def test_one_training_loop() -> None:
    found = [(relative(file), text) for file in files(*PACKAGES) for _, text in calls(file)]
    # The benchmark times other libraries in the loops that their users write.
    found = [(file, text) for file, text in found if file != "tasks/benchmark/peers.py"]
    # The conformance test that is shipped checks gradients and trains nothing.
    backward = [
        file for file, text in found if text.endswith(".backward") and not file.startswith("backbones/testing_")
    ]
    step = [file for file, text in found if text.endswith("optimizer.step")]
    assert backward == ["tasks/stepper.py"]
    assert step == ["tasks/stepper.py"]


@pytest.mark.parametrize(("package", "most"), [("tools", 20), ("configs", 40)])
def test_short(package: str, most: int) -> None:
    lengths = {relative(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files(package)}
    assert {name: length for name, length in lengths.items() if length > most} == {}


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        if package != "tools"
        for file in (ROOT / package).rglob("__init__.py")
    }
    with_code = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in files("backbones", "heads", "tasks", "configs")
    }
    assert set(listed) == folders == with_code


def test_help_needs_no_torch() -> None:
    """Start-up is quick because nothing heavy is imported before a command is sure to run."""
    code = (
        "import sys; sys.path.insert(0, '.'); from tasks.cli import run, train; run(train, ['--help'])\n"
        "heavy = {'torch', 'torchvision', 'timm', 'albumentations', 'cv2', 'accelerate'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--optimizer.lr" in done.stdout
