"""The example of docs/heads.md works as printed."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heads import heads
from heads.testing import check_head

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "heads.md").read_text(encoding="utf-8")
HEAD, CHECK, CONFIG = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    heads._factories.pop("centers", None)


def test_the_head_keeps_the_contract(forgotten: None) -> None:
    namespace: dict[str, Any] = {"__name__": "docs_example"}
    exec(HEAD, namespace)
    body = HEAD[HEAD.index("@register_head") :].splitlines()
    assert len(body) <= 40
    exec(CHECK, {**namespace, "check_head": check_head})


@pytest.mark.slow
def test_the_config_trains_it(command: Callable[..., Any], forgotten: None, tmp_path: Path) -> None:
    (tmp_path / "centers.py").write_text(HEAD)
    (tmp_path / "mine.py").write_text(CONFIG.replace("centers.py", str(tmp_path / "centers.py")))
    said = command("train", tmp_path / "mine.py", "--schedule.epochs", "1", "--out", tmp_path / "run")
    assert said.code == 0, said.error
    assert "AP50" in said.out
