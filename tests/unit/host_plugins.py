"""A plugin that does what its request says, to see from inside what the plugin host makes of it."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, WorkloadDataPoint
from engine_ops.plugins.messages import Replied
from engine_ops.workers.frames import encode_frame

ENTRY_POINT = f"{__name__}:Obedient"


class _Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True


class Obedient(MLPluginInterface):
    def __init__(self) -> None:
        super().__init__(PluginMetadata("obedient", "1.0.0", "Does as it is told"), _Model("obedient"))

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        result = getattr(self, f"do_{request_data['do']}")(request_data.get("with"))
        return {"success": True, "result": {"said": result}}

    def shutdown(self) -> None:
        path = self.config.get("shutdown_file")
        if path:
            Path(path).write_text("shut down", encoding="ascii")

    def do_nothing(self, _: Any) -> None:
        """Be as quick as can be."""

    def do_tell(self, _: Any) -> dict[str, Any]:
        descriptors = {}
        for path in list(Path("/proc/self/fd").iterdir()):
            try:
                descriptors[path.name] = str(path.readlink())
            except FileNotFoundError:  # that of the listing itself
                continue
        return {
            "descriptors": descriptors,
            "environment": dict(os.environ),
            "directory": str(Path.cwd()),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "oom_score": int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
            "parent": os.getppid(),
            "path": sys.path,
            "group": os.getpgrp(),
            "pid": os.getpid(),
        }

    def do_random(self, _: Any) -> float:
        import numpy as np

        return float(np.random.random())  # noqa: NPY002 -- the global generator is what is shared

    def do_sleep(self, _: Any) -> None:
        time.sleep(3600)

    def do_leave_a_child(self, _: Any) -> int:
        """In a session of its own, with this process as its parent."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(3600)
            os._exit(0)
        return pid

    def do_leave_an_orphan(self, _: Any) -> int:
        """In a session of its own, without a parent, and with a child."""
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            orphan = os.fork()
            if orphan == 0:
                os.fork()
                time.sleep(3600)
            os.write(writing, str(orphan).encode())  # itself it may not live for long enough
            os._exit(0)
        os.wait()
        os.close(writing)
        with os.fdopen(reading) as pipe:
            return int(pipe.read(10))

    def do_leave_the_group(self, _: Any) -> None:
        os.setpgid(0, os.getpgid(os.getppid()))
        time.sleep(3600)

    def do_have_a_child_allocate(self, size_bytes: int) -> None:
        if os.fork() == 0:
            held = b"x" * size_bytes
            time.sleep(3600)
            os._exit(len(held) % 1)
        time.sleep(3600)

    def do_allocate(self, size_bytes: int) -> int:
        self.held = b"x" * size_bytes
        return len(self.held)

    def do_fork_with_what_is_held(self, children: int) -> None:
        """Share the memory that is held with children that touch none of it."""
        for _ in range(children):
            if os.fork() == 0:
                time.sleep(3600)
                os._exit(0)

    def do_answer_twice(self, _: Any) -> None:
        for path in list(Path("/proc/self/fd").iterdir()):
            number = int(path.name)
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, encode_frame(Replied(no="first")))
            except OSError:
                continue

    def do_connect(self, path: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.setblocking(False)
            sock.connect(path)
            self.kept = sock.dup()
        return "connected"
