import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heads.normaliser import mean_count


def test_one_process_divides_by_its_own_count() -> None:
    assert mean_count(torch.tensor([5.0, 0.0])).tolist() == [5.0, 1.0]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).with_name("distributed_loss.py")
    started = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", tmp_path / "rendezvous"],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])},
        )
        for rank in range(2)
    ]
    runpy.run_path(str(script))["main"](0, 1, "")
    alone = json.loads(capsys.readouterr().out)
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    first, second = (json.loads(output) for output in outputs)
    assert first == second
    assert alone.keys() == first.keys()
    for head in {name.split("/")[0] for name in alone}:
        own = {name: values for name, values in alone.items() if name.startswith(f"{head}/")}
        largest = max(abs(value) for values in own.values() for value in values)
        for name, values in own.items():
            assert first[name] == pytest.approx(values, rel=1e-5, abs=1e-6 * largest), name
            assert any(values), name
