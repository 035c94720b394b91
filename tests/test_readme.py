"""What the README says exists does, and its example works as printed."""

import re
import sys
import types
from pathlib import Path

from backbones.contract import backbones
from backbones.testing import check_backbone

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Contents of the fenced blocks of one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [content for written, content in fenced if written == language]


def test_file_tree_exists() -> None:
    (tree,) = blocks("")
    folder, named = "", []
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        named.append(folder + name if line.startswith(" ") else folder)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_named_paths_exist() -> None:
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    paths = re.findall(r"`((?:backbones|heads|tasks|configs|tools)/[\w/]+\.py)`", prose)
    paths += re.findall(r"(?:tools|configs)/[\w/]+\.py", "".join(blocks("bash")))
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_custom_backbone_keeps_the_contract() -> None:
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    module = types.ModuleType("readme_example")
    sys.modules["readme_example"] = module
    try:
        exec(code, module.__dict__)
        check_backbone(module.MyNet)
        assert "my_net" in backbones.names()
    finally:
        del sys.modules["readme_example"]
        backbones._factories.pop("my_net", None)


def test_reading_path_leads_to_backward() -> None:
    paragraph = next(part for part in README.split("\n\n") if part.startswith("To follow `train`"))
    files = [ROOT / name for name in re.findall(r"`([\w/]+\.py)`", paragraph)]
    assert len(files) <= 12
    assert files[0] == ROOT / "tools/train.py"
    assert any(".backward(" in file.read_text(encoding="utf-8") for file in files)
    for position, file in enumerate(files[1:], start=1):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        package = module.rpartition(".")[0]
        # Networks and heads are built by name, through the package that registers them.
        wanted = rf"(from|import) ({re.escape(module)}|{package if package in ('backbones', 'heads') else module})\b"
        earlier = [before.read_text(encoding="utf-8") for before in files[:position]]
        assert any(re.search(wanted, text) for text in earlier), f"{module} is not imported by what comes before it"
