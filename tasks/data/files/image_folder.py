"""Which image files lie under a folder, found by listing each directory once instead of asking for every file."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from backbones.errors import UserError
from tasks.data.files.image_file import SUFFIXES, is_image


class ImageFolder:
    """The files under `root`, and the fence around it: no name leads out, not even through a symbolic link.

    Args:
        root: the folder that file names are relative to. It may be a link itself; what lies in it may not leave it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = os.path.realpath(root)
        self._listed: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

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
        return path.name in self._list(str(path.parent))[0]

    def folders(self, directory: str = ".") -> list[str]:
        """Names of the folders in `directory`, sorted; hidden ones and the rests of archives are left out.

        Raises:
            UserError: a symbolic link in it leads out of the root.
        """
        return sorted(name for name in self._list(directory)[1] if not name.startswith((".", "__")))

    def images(self, directory: str = ".", deep: bool = True) -> list[str]:
        """Image files in `directory`, and those in all folders below if `deep`, relative to the root; sorted.

        Raises:
            UserError: a symbolic link leads out of the root.
        """
        found = [
            str(PurePosixPath(directory, name))
            for name in self._list(directory)[0]
            if is_image(Path(name)) and not name.startswith(".")
        ]
        if deep:
            for name in self.folders(directory):
                found += self.images(str(PurePosixPath(directory, name)))
        return sorted(found)

    def holds_image(self, directory: str) -> bool:
        """Whether an image file lies in `directory` or below it."""
        return bool(self.images(directory, deep=False)) or any(
            self.holds_image(str(PurePosixPath(directory, name))) for name in self.folders(directory)
        )

    def _list(self, directory: str) -> tuple[frozenset[str], frozenset[str]]:
        """Names of files and of folders."""
        if directory not in self._listed:
            real = os.path.realpath(os.path.join(self._real_root, directory))
            self._fence(real, directory)
            files, folders = [], []
            if os.path.isdir(real):
                with os.scandir(real) as entries:
                    for entry in entries:
                        if entry.is_symlink():
                            self._fence(os.path.realpath(entry.path), os.path.join(directory, entry.name))
                        if entry.is_file():
                            files.append(entry.name)
                        # A link to a folder that it lies in would go round and round.
                        elif entry.is_dir() and not (
                            entry.is_symlink() and _inside(real, os.path.realpath(entry.path))
                        ):
                            folders.append(entry.name)
            self._listed[directory] = frozenset(files), frozenset(folders)
        return self._listed[directory]

    def _fence(self, real: str, shown: str) -> None:
        if not _inside(real, self._real_root):
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


def stem_of(name: str) -> str:
    """Name of an image file without its folders and its ending; "scan" for "a/scan.nii.gz"."""
    base = PurePosixPath(name).name
    suffix = max((suffix for suffix in SUFFIXES if base.lower().endswith(suffix)), key=len, default="")
    return base[: len(base) - len(suffix)] if suffix else PurePosixPath(base).stem


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
