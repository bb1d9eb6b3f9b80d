"""The Unix socket on which the plugin host waits for its operator."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import socket
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_UMASK: Final = 0o117
"""Mode 0660: an operator of another user reaches it through the group of the directory."""

_BACKLOG: Final = 4


def listen(path: Path) -> socket.socket:
    """Listen on a path. The file of a host that is gone is replaced.

    Parameters
    ----------
    path
        In a directory that exists.

    Raises
    ------
    FileExistsError
        If a host listens there, or if it is no socket.
    OSError
        If the directory is missing or cannot be written, or the path is longer than a socket's may be (107 bytes).
    """
    if path.exists():
        if not path.is_socket():
            raise FileExistsError(f"{path} is no socket")
        if _is_live(path):
            raise FileExistsError(f"another plugin host listens on {path}")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(_UMASK)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def refreshed(listener: socket.socket, path: Path) -> socket.socket:
    """Return a socket that listens on the path: the same, unless its file was removed or replaced.

    Plugins can do so, as they are of the host's user; when this is called, none of their processes is left.

    Parameters
    ----------
    listener
        What `listen` returned for the path; closed if another is returned.
    path
        Of its file.

    Raises
    ------
    OSError
        See `listen`.
    """
    with contextlib.suppress(OSError):
        if path.is_socket() and _is_live(path):
            return listener
    logger.warning("the file of the socket %s is gone or another's; it is made anew", path)
    listener.close()
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return listen(path)


def accept(listener: socket.socket) -> socket.socket:
    """Wait for the next operator.

    A connection whose other end is closed already is not looked at. While one operator is served, plugins could connect
    and leave commands behind; when the next is waited for, all of their processes are dead.
    """
    while True:
        connection, _ = listener.accept()
        poll = select.poll()
        poll.register(connection, 0)  # it tells of a hang-up in any case
        if not poll.poll(0):
            return connection
        connection.close()


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # so many wait for it already
            return True
        except OSError:
            return False
        return True


def remove(path: Path) -> None:
    """Remove the file, if it is still there."""
    with contextlib.suppress(OSError):
        path.unlink()
