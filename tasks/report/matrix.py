"""A confusion matrix as a table, or where there are many classes as the list of what is confused most."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.report.blocks import Cell, Table
from tasks.report.numbers import share

MOST = 16  # classes in a table
LONGEST_LIST = 20


def confusion_table(matrix: npt.NDArray[np.int64], names: Sequence[str], what: str, note: str) -> Table:
    """Counts by what is annotated (rows) and what was predicted (columns).

    Args:
        matrix: (K, K).
        names: K.
        what: is counted.
        note: what a reader must know.
    """
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    if len(names) > MOST:
        off = np.where(np.eye(len(names), dtype=bool), 0, matrix)
        order = np.argsort(-off, axis=None, kind="stable")[:LONGEST_LIST]
        places = [divmod(int(place), len(names)) for place in order if off.flat[place]]
        rows = [
            [names[row], names[column], f"{matrix[row, column]:,}", share(matrix[row, column], totals[row])]
            for row, column in places
        ]
        return Table(f"Confused most, {what}", ["annotated", "predicted", what, "of the annotated"], rows, note)
    table: list[list[str | Cell]] = []
    for row, name in enumerate(names):
        pairs = zip(matrix[row].tolist(), shares[row].tolist(), strict=True)
        table.append([name, *(_cell(count, part, row == column) for column, (count, part) in enumerate(pairs))])
    return Table(f"Confusion matrix, {what}", ["annotated \\ predicted", *names], table, note)


def _cell(count: int, part: float, right: bool) -> Cell:
    # The root makes a few confusions among many visible.
    return Cell(f"{count:,}", part**0.5 if count else 0.0, "good" if right else "bad")
