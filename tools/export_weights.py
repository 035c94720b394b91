"""Write a run's weights for another library: python tools/export_weights.py RUN --layout torchvision --out FILE.pth."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import export_weights, run

if __name__ == "__main__":
    sys.exit(run(export_weights, sys.argv[1:]))
