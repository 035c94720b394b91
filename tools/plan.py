"""Measure a data set and write a config for it: python tools/plan.py DATA [--out FILE.py]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import plan, run

if __name__ == "__main__":
    sys.exit(run(plan, sys.argv[1:]))
