"""Train an experiment fold by fold: python tools/cross_validate.py CONFIG --data.folds 5 [--field value ...]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import cross_validate, run

if __name__ == "__main__":
    sys.exit(run(cross_validate, sys.argv[1:]))
