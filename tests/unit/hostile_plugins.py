"""A plugin that speaks past its session, straight to the operator, as a hostile one can."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, WorkloadDataPoint
from engine_ops.plugins.messages import Replied
from engine_ops.workers.frames import encode_frame

ENTRY_POINT = f"{__name__}:Hostile"


def writing_end() -> int:
    """Return the descriptor on which this process answers."""
    for path in list(Path("/proc/self/fd").iterdir()):
        number = int(path.name)
        try:
            mode, flags = os.fstat(number).st_mode, fcntl.fcntl(number, fcntl.F_GETFL)
        except OSError:
            continue
        if number > 2 and stat.S_ISFIFO(mode) and flags & os.O_ACCMODE == os.O_WRONLY:
            return number
    raise AssertionError("there is no pipe to the operator")


class _Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True


class Hostile(MLPluginInterface):
    def __init__(self) -> None:
        super().__init__(PluginMetadata("hostile", "1.0.0", "Means harm"), _Model("hostile"))

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        said = getattr(self, f"do_{request_data['do']}")(request_data.get("with"))
        return {"success": True, "result": {"said": said}}

    def do_nothing(self, _: Any) -> None:
        """Be as good as can be."""

    def do_write(self, text: str) -> None:
        """Write bytes, given as Latin-1, in place of an answer."""
        os.write(writing_end(), text.encode("latin-1"))
        time.sleep(3600)

    def do_answer_and_write(self, text: str) -> None:
        """Answer in the same breath with more bytes."""
        os.write(writing_end(), encode_frame(Replied(no="first")) + text.encode("latin-1"))
        time.sleep(3600)

    def do_write_later(self, path: str) -> None:
        """Write half a frame when a file is there, and nobody asks."""

        def write() -> None:
            while not Path(path).exists():
                time.sleep(0.001)
            os.write(writing_end(), b"\x00\x10\x00\x00half of a frame")

        threading.Thread(target=write, daemon=True).start()

    def do_answer_and_die(self, _: Any) -> None:
        os.write(writing_end(), encode_frame(Replied(no="last words")))
        os._exit(3)

    def do_close_its_ends(self, _: Any) -> None:
        os.closerange(3, 100)
        time.sleep(3600)

    def do_kill_the_host(self, _: Any) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)
