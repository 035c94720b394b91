"""Write a trained model as a file for other programs: python tools/export.py RUN [--format onnx]."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import export, run

if __name__ == "__main__":
    sys.exit(run(export, sys.argv[1:]))
