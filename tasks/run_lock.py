"""One training at a time in a run folder: two would overwrite each other's log and checkpoints."""

import errno
import os
import sys
import time
from pathlib import Path

from backbones.errors import UserError

if sys.platform != "win32":
    import fcntl

PATIENCE = 5.0  # seconds for the processes of an earlier start that are just being killed


class RunLock:
    """A lock on a run folder that the system releases when the process that took it ends, however it does.

    Processes forked off, such as those that load data, do not hold it. On Windows, and on file systems without locks,
    nothing is locked.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / ".lock"
        self._handle: int | None = None

    def take(self) -> None:
        """Hold it from now on.

        Raises:
            UserError: another process does.
        """
        if sys.platform == "win32":
            return
        self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    return
                if time.monotonic() > end:
                    raise UserError(self._refusal()) from None
                time.sleep(0.1)
            else:
                break
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"process {os.getpid()} on {os.uname().nodename}".encode())

    def release(self) -> None:
        """Let others take it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _refusal(self) -> str:
        assert self._handle is not None
        holder = os.pread(self._handle, 200, 0).decode(errors="replace") or "another process"
        self.release()
        return (
            f"{self.folder}: {holder} is training in it; wait until that has ended, or stop it (Ctrl-C saves first), "
            "and go on with --resume; for another run choose another --out"
        )
