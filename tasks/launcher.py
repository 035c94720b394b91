"""Processes that torchrun has started end with it.

A torchrun that is killed, for want of memory for instance, leaves its processes behind. They would go on in the run
folder while those of the next start write there as well.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # Linux's sys/prctl.h


def end_with_torchrun() -> bool:
    """Let the system kill this process when the torchrun that started it ends; whether that was arranged.

    Only for processes of torchrun (and of accelerate's launcher, which is torchrun inside), and only on Linux.
    """
    if not sys.platform.startswith("linux") or "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0)
