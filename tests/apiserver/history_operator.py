"""An operator with a history in a namespace of its own, and with a clock and a Lease that a test may choose."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Self

from operator_process import OperatorProcess

from engine_ops.devcluster import DevCluster
from engine_ops.kube.lease import RENEW_DEADLINE_SECONDS

# Stamps and dates come from the functions that are replaced here, each time with the offset of a page that the test
# writes. `datetime` is replaced where dates are made, and not where types are named: decoders compare those.
_WRAPPER = """
import datetime, mmap, os, struct, sys, time, types

file = os.open(os.environ["TEST_CLOCK"], os.O_RDONLY)
page = mmap.mmap(file, 8, access=mmap.ACCESS_READ)
clock_ns = time.time_ns
time.time_ns = lambda: clock_ns() + struct.unpack("<q", page[:8])[0]
time.time = lambda: time.time_ns() / 1e9

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)

shifted = types.ModuleType("datetime")
vars(shifted).update(vars(datetime), datetime=Shifted)

from engine_ops.cli.main import main
from engine_ops.controllers import operator
from engine_ops.kube import lease

operator.LEASE_NAME = os.environ["TEST_LEASE"]
lease.RENEW_DEADLINE_SECONDS = float(os.environ["TEST_RENEW_DEADLINE"])
for name, module in list(sys.modules.items()):
    if name.startswith("engine_ops.controllers.") and getattr(module, "datetime", None) is datetime:
        module.datetime = shifted
if __name__ == "__main__":
    main()
"""


class Clock:
    """The clock of operators, beside the machine's.

    Parameters
    ----------
    path
        A file for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_bytes(bytes(8))

    def move(self, hours: float) -> None:
        """Set it to so many hours after the machine's, at once for operators that run."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("<q", round(hours * 3600e9)))


class WrappedOperator(OperatorProcess):
    """An operator with another clock and another Lease.

    Parameters
    ----------
    kubeconfig, *arguments
        As for `OperatorProcess`.
    directory
        For its program.
    clock
        Its clock.
    lease
        The name of its Lease: those with different ones serve at the same time, which no option allows.
    renew_deadline_seconds
        For so long it tries to renew the Lease.
    """

    def __init__(
        self,
        kubeconfig: Path,
        *arguments: str,
        directory: Path,
        clock: Clock,
        lease: str,
        renew_deadline_seconds: float,
    ) -> None:
        environment = {
            "TEST_CLOCK": str(clock.path),
            "TEST_LEASE": lease,
            "TEST_RENEW_DEADLINE": str(renew_deadline_seconds),
        }
        super().__init__(kubeconfig, *arguments, environment=environment)
        program = directory / "wrapped_operator.py"
        program.write_text(_WRAPPER)
        self._command = [sys.executable, str(program), *self._command[1:]]


class Keepers:
    """Starts operators of one pair of namespaces, with an administrator's rights. A context manager that ends them.

    Parameters
    ----------
    cluster
        Where.
    of, own
        The namespaces of the requests and of the operators.
    directory
        For their files.
    """

    def __init__(self, cluster: DevCluster, of: str, own: str, directory: Path) -> None:
        self._kubeconfig = cluster.kubeconfig
        places = (f"--namespace={of}", f"--lease-namespace={own}")
        self._arguments = ("--workers=1", "--probes=none", "--history-flush-seconds=0.1", *places)
        self._directory = directory
        self._started: list[OperatorProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._started):
            end(process)
            sys.stderr.write(process.stderr)  # pytest shows it with a test that failed

    def start(
        self,
        *arguments: str,
        clock: Clock | None = None,
        lease: str | None = None,
        renew_deadline_seconds: float | None = None,
        wait: bool = True,
    ) -> OperatorProcess:
        """Start one; with a clock, a Lease or a time for its renewal of its own if they are given."""
        if clock is None and lease is None and renew_deadline_seconds is None:
            process = OperatorProcess(self._kubeconfig, *self._arguments, *arguments)
        else:
            process = WrappedOperator(
                self._kubeconfig,
                *self._arguments,
                *arguments,
                directory=self._directory,
                clock=clock or Clock(self._directory / "machine's clock"),
                lease=lease or "engine-ops",
                renew_deadline_seconds=renew_deadline_seconds or RENEW_DEADLINE_SECONDS,
            )
        self._started.append(process)
        return process.start(wait=wait)


def end(process: OperatorProcess) -> None:
    """Kill an operator, and what is left of its workers."""
    if process.returncode is None:
        process.kill9()
    process.stop()
