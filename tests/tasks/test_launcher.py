"""A process of torchrun's does not outlive it; any other goes on when whoever started it is gone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tasks.launches import ROOT, running

CHILD = (
    "import time; from tasks.launcher import end_with_torchrun; print(end_with_torchrun(), flush=True); time.sleep(60)"
)
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), flush=True)
child.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can arrange it")
@pytest.mark.parametrize("torchrun", [True, False])
def test_ends_with_torchrun_alone(torchrun: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHELASTIC_RUN_ID", None)
    if torchrun:
        environment["TORCHELASTIC_RUN_ID"] = "test"
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid, arranged = parent.stdout.readline().split()
        parent.kill()
    assert arranged == str(torchrun)
    end = time.monotonic() + (10 if torchrun else 0.2)
    while running(int(pid)) and time.monotonic() < end:
        time.sleep(0.01)
    left = running(int(pid))
    if left:
        os.kill(int(pid), signal.SIGKILL)
    assert left != torchrun
