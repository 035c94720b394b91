"""TensorBoard events, from the same records as metrics.jsonl."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backbones.errors import UserError


def require_tensorboard() -> None:
    """Raise `UserError` when events are asked for and cannot be written."""
    if find_spec("tensorboard") is None:
        raise UserError(
            "runner.tensorboard is on, but tensorboard is not installed; pip install tensorboard, or leave it off"
        )


class EventLog:
    """Writes records as scalars.

    Args:
        folder: for the event files.
        step: steps done already; TensorBoard hides what an interrupted run wrote after it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Write the numbers of one record of metrics.jsonl: `loss`, `lr`, `losses/<loss>`, `metrics/<metric>`."""
        for name, value in record.items():
            named = (
                {f"{name}/{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
            )
            for tag, number in named.items():
                if tag != "step" and number is not None:
                    self._writer.add_scalar(tag, number, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
