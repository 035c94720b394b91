"""Show where a trained model sees what it predicts: python tools/explain.py RUN IMAGE ...."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import explain, run

if __name__ == "__main__":
    sys.exit(run(explain, sys.argv[1:]))
