"""Compare plain and residual networks of growing depth: python tools/study_depth.py CONFIG [--networks ...]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import run, study_depth

if __name__ == "__main__":
    sys.exit(run(study_depth, sys.argv[1:]))
