"""Name the registered backbones, heads and configs: python tools/list.py."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import list_registered, run

if __name__ == "__main__":
    sys.exit(run(list_registered, sys.argv[1:]))
