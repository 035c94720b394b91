"""Take one step of a run again: python tools/replay.py RUN --step N."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import replay, run

if __name__ == "__main__":
    sys.exit(run(replay, sys.argv[1:]))
