"""The plugin host as a subprocess of the operator.

Its arguments: descriptor of the control socket, the operator's pid, the log level, and what to load in advance.
"""

from __future__ import annotations

import logging
import socket
import sys

from engine_ops.plugins.host.main import serve_parent


def main() -> None:
    """Serve until the operator closes the socket."""
    descriptor, parent_pid, level = (int(argument) for argument in sys.argv[1:4])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("engine_ops").setLevel(level)
    with socket.socket(fileno=descriptor) as sock:
        serve_parent(sock, parent_pid, sys.argv[4:])


if __name__ == "__main__":
    main()
