"""Tell whether runs differ by more than chance: python tools/compare.py RUN RUN ...."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import compare, run

if __name__ == "__main__":
    sys.exit(run(compare, sys.argv[1:]))
