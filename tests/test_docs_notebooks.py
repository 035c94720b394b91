"""The notebooks of docs/notebooks/ run from top to bottom, offline, on the data that they generate.

python tests/test_docs_notebooks.py writes the pages of the site that show them.
"""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
# In place of what the cell of parameters says: as little as shows that every cell works.
QUICK: dict[str, dict[str, int]] = {
    "blood_cells": {"IMAGES": 8, "EPOCHS": 1, "WORKERS": 0},
    "own_backbone": {"IMAGES": 8, "EPOCHS": 1, "WORKERS": 0},
    "own_head": {"IMAGES": 8, "EPOCHS": 2, "WORKERS": 0},
    "medical": {"PATIENTS": 5, "EPOCHS": 2, "WORKERS": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own
def test_notebook(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (place,) = [number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    given = "\n".join(f"{key} = {value!r}" for key, value in QUICK[name].items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(given))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(pictures) >= 2
    (log,) = tmp_path.glob("notebook_runs/*/run/metrics.jsonl")
    assert "metrics" in log.read_text().splitlines()[-1]
    reports = list(tmp_path.glob("notebook_runs/*/run/report.html"))
    assert len(reports) == (name in ("blood_cells", "medical"))


def test_all_are_run_and_none_has_outputs() -> None:
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(QUICK)
    for file in FOLDER.glob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
        parameters = next("".join(cell["source"]) for cell in cells if cell["metadata"].get("tags") == ["parameters"])
        assert all(f"{name} = " in parameters for name in QUICK[file.stem])


def page_of(name: str) -> str:
    """The notebook as a page of the site, without what it prints and draws."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    parts = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in notebook.cells
    ]
    parts.insert(
        1, f"This page shows the [notebook]({name}.ipynb), which also runs on data of yours: set its parameters."
    )
    return "\n\n".join(parts) + "\n"


@pytest.mark.parametrize("name", QUICK)
def test_page_is_that_of_the_notebook(name: str) -> None:
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == page_of(name)


if __name__ == "__main__":
    for name in QUICK:
        (FOLDER / f"{name}.md").write_text(page_of(name), encoding="utf-8")
