"""Score a run or a COCO results file: python tools/evaluate.py RUN."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import evaluate, run

if __name__ == "__main__":
    sys.exit(run(evaluate, sys.argv[1:]))
