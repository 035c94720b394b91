"""Write the report of a run as one HTML page: python tools/report.py RUN."""

import sys
from pathlib import Path

# The checkout comes first, so that no other installed package called `tasks` can stand in for ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.cli import report, run

if __name__ == "__main__":
    sys.exit(run(report, sys.argv[1:]))
