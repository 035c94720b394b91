"""Show what a model is given to learn from, as one HTML page: python tools/browse.py CONFIG."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import browse, run

if __name__ == "__main__":
    sys.exit(run(browse, sys.argv[1:]))
