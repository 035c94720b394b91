"""Everything around the network: data, training, checkpoints, metrics, the command line.

`from tasks import load_model` is the Python way to a trained model.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.prediction.loaded_model import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> object:
    """The name above on first use: what it needs takes longer to import than `--help` should to answer."""
    if name not in __all__:
        raise AttributeError(f"module 'tasks' has no attribute {name!r}")
    return getattr(import_module("tasks.prediction.loaded_model"), name)
