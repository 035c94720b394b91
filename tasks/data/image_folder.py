"""Which image files lie under a folder, found by listing each directory once instead of asking for every file."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from backbones.errors import UserError


class ImageFolder:
    """The files under `root`, and the fence around it: no name leads out, not even through a symbolic link.

    Args:
        root: the folder that file names are relative to. It may be a link itself; what lies in it may not leave it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = os.path.realpath(root)
        self._listed: dict[str, frozenset[str]] = {}

    def exists(self, name: str) -> bool:
        """Whether `name` is a file under the root.

        Raises:
            UserError: the name leads out of the root.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if "\0" in name or path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
            raise UserError(
                f"{self.root}: file name {name!r} leads out of the folder; expected a path relative to it, without '..'"
            )
        return path.name in self._list(str(path.parent))

    def _list(self, directory: str) -> frozenset[str]:
        if directory not in self._listed:
            real = os.path.realpath(os.path.join(self._real_root, directory))
            self._fence(real, directory)
            files = []
            if os.path.isdir(real):
                with os.scandir(real) as entries:
                    for entry in entries:
                        if entry.is_symlink():
                            self._fence(os.path.realpath(entry.path), os.path.join(directory, entry.name))
                        if entry.is_file():
                            files.append(entry.name)
            self._listed[directory] = frozenset(files)
        return self._listed[directory]

    def _fence(self, real: str, shown: str) -> None:
        if os.path.commonpath([real, self._real_root]) != self._real_root:
            raise UserError(
                f"{self.root}: {shown} is a symbolic link to {real}, outside the folder; "
                "copy the files in, or give the folder that really holds them"
            )

    def require(self, names: Iterable[str], asked_by: Path) -> None:
        """Check that all files are there.

        Raises:
            UserError: some are not; names the first of them, and how many.
        """
        names = list(names)
        missing = [name for name in names if not self.exists(name)]
        if missing:
            raise UserError(
                f"{asked_by}: image {missing[0]} is not in {self.root} ({len(missing)} of {len(names)} images are "
                "missing); expected every listed image there: add them, or take them out of the annotations"
            )
