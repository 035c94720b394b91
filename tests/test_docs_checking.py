"""The table of findings in docs/checking.md is that of the code.

python tests/test_docs_checking.py writes it anew.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "checking.md"
START, END = "<!-- findings -->\n", "<!-- end of findings -->\n"


def table() -> str:
    """Every kind of finding, a table for each file of checks."""
    from tasks.checking.catalogue import TITLES, kinds_of

    parts = []
    for module, title in TITLES.items():
        rows = [f"| `{kind.code}` | {kind.grade} | {kind.looks} | {kind.means} |" for kind in kinds_of(module)]
        parts.append(
            "\n".join(
                [f"### {title}\n", "| finding | grade | found when | what it means |", "|---|---|---|---|", *rows]
            )
        )
    return "\n\n".join(parts) + "\n"


def test_table_is_that_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(START)[1].split(END)[0] == f"\n{table()}\n"


def test_codes_are_unique() -> None:
    from tasks.checking.catalogue import TITLES, kinds_of

    codes = [kind.code for module in TITLES for kind in kinds_of(module)]
    assert len(codes) == len(set(codes)) > 25


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")
