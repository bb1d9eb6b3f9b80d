"""The end of what a process has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any


def kill_group(leader: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a group (``start_new_session``), and what is left of the group.

    The number of one that is reaped is given anew, and may be that of a process of somebody else's, with a group of its
    own. While anything is left of the group, it is not: then no process has it.
    """
    if leader.poll() is None or not Path(f"/proc/{leader.pid}").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, signal.SIGKILL)
