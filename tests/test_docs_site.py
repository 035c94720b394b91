"""The documentation builds without network into pages that load nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_site(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for package in ("backbones", "heads", "tasks"):  # whose docstrings are read
        (tmp_path / package).symlink_to(ROOT / package)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    html = (tmp_path / "build" / "site").glob("*/index.html")
    built = {page.parent.name: page.read_text(encoding="utf-8") for page in html}
    assert built.keys() >= pages - {"index"}
    for name, text in built.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?([^\"' >]+)", text)
        loaded += re.findall(r"<link[^>]*rel=[\"']?stylesheet[^>]*href=[\"']?([^\"' >]+)", text)
        assert loaded, name
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], name
    for documented in ("load_model", "FeatureSpec", "check_head", "Experiment", "train_experiment"):
        assert re.search(rf'id="[\w.]*\b{documented}"', built["api"]), documented
