"""Train a config on a Ray cluster: python tools/train_on_ray.py --processes 4 -- CONFIG --out /shared/runs/x."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import run, train_on_ray

if __name__ == "__main__":
    sys.exit(run(train_on_ray, sys.argv[1:]))
