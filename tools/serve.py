"""Serve a model on a page to try it on, and over HTTP: python tools/serve.py runs/x."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import run, serve

if __name__ == "__main__":
    sys.exit(run(serve, sys.argv[1:]))
