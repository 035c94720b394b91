"""Train an experiment: python tools/train.py CONFIG [--field value ...]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import run, train

if __name__ == "__main__":
    sys.exit(run(train, sys.argv[1:]))
