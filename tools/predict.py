"""Run a trained model on images: python tools/predict.py RUN IMAGE ...."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import predict, run

if __name__ == "__main__":
    sys.exit(run(predict, sys.argv[1:]))
