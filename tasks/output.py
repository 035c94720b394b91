"""Files that a command writes for people: what cannot be written is their mistake, told in one line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backbones.errors import UserError


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """An `OSError` within becomes a `UserError` that names the file, the reason and `--out`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error


def write_whole(out: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file beside `out`, which then takes its place: a file that was there is kept or replaced.

    Raises:
        UserError: it cannot be written; nothing is left behind.
    """
    beside = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    with writing(out):
        if out.is_dir():
            raise IsADirectoryError(None, "is a folder", str(out))
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
