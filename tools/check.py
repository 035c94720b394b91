"""Look for mistakes in data and training: python tools/check.py CONFIG [--field value ...]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import check, run

if __name__ == "__main__":
    sys.exit(run(check, sys.argv[1:]))
