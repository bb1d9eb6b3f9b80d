"""What a user has changed of plugins, in a file: on one machine it stands for the spec of OptimizerPlugins."""

from __future__ import annotations

import os
import pathlib
import secrets
from typing import Annotated, Any

import msgspec


class SettingsError(Exception):
    """The file cannot be read or written; the message names it."""


class KeptPlugin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was changed of one plugin.

    Parameters
    ----------
    enabled, priority, config
        As in the spec of an OptimizerPlugin; None for what was not changed.
    """

    enabled: bool | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] | None = None
    config: dict[str, Any] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    plugins: dict[str, KeptPlugin]


class KeptSettings:
    """The settings of all plugins, also of those that are not installed now.

    Parameters
    ----------
    path
        Of the file, replaced as a whole or not at all, and readable by its owner only. None for memory alone.

    Raises
    ------
    SettingsError
        If there is a file that cannot be read: what it says is not thrown away.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else pathlib.Path(path)
        self._plugins: dict[str, KeptPlugin] = {}
        if self._path is not None:
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                return
            except OSError as error:
                raise SettingsError(f"{self._path}: {error.strerror or error}") from error
            try:
                self._plugins = msgspec.json.decode(content, type=_File).plugins
            except (msgspec.DecodeError, RecursionError) as error:
                raise SettingsError(f"{self._path}: {error}; mend it or remove it") from error

    def get(self, name: str) -> KeptPlugin:
        """Return what was changed of a plugin."""
        return self._plugins.get(name, KeptPlugin())

    def keep(self, name: str, plugin: KeptPlugin) -> None:
        """Keep the settings of a plugin. Where this raises, the earlier ones are kept.

        Raises
        ------
        SettingsError
            If the file cannot be written.
        """
        plugins = {**self._plugins, name: plugin}
        if self._path is not None:
            content = msgspec.json.format(msgspec.json.encode(_File(dict(sorted(plugins.items())))), indent=2)
            _write(self._path, content + b"\n")
        self._plugins = plugins


def _write(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode from the start
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # without it the old file may be back after a power cut
        finally:
            os.close(directory)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
