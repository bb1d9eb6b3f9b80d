"""What can go wrong with the plugin host."""

from __future__ import annotations


class HostUnavailableError(ConnectionError):
    """No plugin host can be reached, or it cannot start a process; nothing is known of any plugin. Try again later."""
