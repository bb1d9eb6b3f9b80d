"""What can go wrong around a local control plane, each with a sentence that says what to do."""

from __future__ import annotations


class DevClusterError(RuntimeError):
    """A local control plane could not be built, started, reached or stopped."""


class MissingComponentError(DevClusterError):
    """A component was asked for whose binary is not there."""


class BuildError(DevClusterError):
    """The binaries could not be built."""


class StartError(DevClusterError):
    """A component did not come up; the message ends with the tail of its log."""


class PortTakenError(StartError):
    """A component lost its port to another process between the choice and the bind."""
