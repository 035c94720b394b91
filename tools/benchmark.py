"""Time Polyhead beside other libraries: python tools/benchmark.py train --workload detection."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import benchmark, run

if __name__ == "__main__":
    sys.exit(run(benchmark, sys.argv[1:]))
