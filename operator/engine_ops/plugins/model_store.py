"""Trained models that survive a restart."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import secrets
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import msgspec

from engine_ops.api.optimizerplugin import PluginSource
from engine_ops.plugins.messages import MAX_STATE_BYTES

KEPT: Final = 3
"""Models of a plugin that are kept, newest first."""

MAX_HEAD_BYTES: Final = 32 * 2**20
"""Of `SavedModels.head` when it is unpacked; a longer one is refused."""

_FORMAT: Final = 1
_HEAD: Final = "head"


class ModelStoreError(RuntimeError):
    """The store could not do what was asked. It is tried again later; the message is for people."""


class ModelRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one trained model, besides its state.

    Parameters
    ----------
    digest
        ``sha256:...``: of the state, or of the training's circumstances where there is none.
    model_id
        As the plugin calls it.
    samples
        Points of history it was trained on.
    trained_at_ms
        Epoch milliseconds.
    made_with
        `circumstances` of the plugin: under others it is not taken over.
    passed
        How it came to be served: ``proven``, ``unscored`` (nothing in its replies can be scored); empty where it has
        passed no gate.
    """

    digest: str
    model_id: str
    samples: int
    trained_at_ms: int
    made_with: str
    passed: str = ""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    format: int
    records: tuple[ModelRecord, ...] = ()
    active: str = ""
    candidate: str = ""
    trackers: dict[str, bytes] = {}
    points_since: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class SavedModels:
    """The models of one plugin, as they are kept.

    A store may write `head` and each of ``states`` as they are: a state never changes under its digest. It writes new
    states first, then the head, then forgets the states that no record names.

    Parameters
    ----------
    records
        Newest first, at most `KEPT`, each of another digest.
    active, candidate
        Digests of the model that is served and the one in shadow; empty for none.
    states
        By digest; see `engine_ops.plugins.model_state`. A model without a saved form has none.
    trackers
        By digest: `engine_ops.plugins.skill.SkillTracker.to_state`.
    points_since
        Outcomes that became known since the last training.
    """

    records: tuple[ModelRecord, ...] = ()
    active: str = ""
    candidate: str = ""
    states: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    trackers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    points_since: int = 0

    def head(self) -> bytes:
        """Return everything but the states, as compressed msgpack; some 200 KB at most."""
        head = _Head(_FORMAT, self.records, self.active, self.candidate, dict(self.trackers), self.points_since)
        return zlib.compress(msgspec.msgpack.encode(head), level=1)

    @staticmethod
    def digests_of(head: bytes) -> tuple[str, ...]:
        """Return the digests of the models that `head` names: those whose states are wanted for `of`.

        Raises
        ------
        ValueError
            If it is no head.
        """
        return tuple(record.digest for record in _read(head).records)

    @classmethod
    def of(cls, head: bytes, states: Mapping[str, bytes]) -> SavedModels:
        """Return what was saved.

        Parameters
        ----------
        head
            Of `head`.
        states
            By digest; one that is missing is as if the model had no saved form.

        Raises
        ------
        ValueError
            If ``head`` is no head.
        """
        read = _read(head)
        known = {record.digest for record in read.records}
        return cls(
            records=read.records,
            active=read.active,
            candidate=read.candidate,
            states={digest: state for digest, state in states.items() if digest in known},
            trackers=read.trackers,
            points_since=read.points_since,
        )


class ModelStore(Protocol):
    """Where models are kept. One plugin is saved by one caller at a time."""

    async def load(self, plugin: str) -> SavedModels:
        """Return the plugin's models; none of them where nothing was saved.

        Raises
        ------
        ModelStoreError
            If they cannot be read.
        """

    async def save(self, plugin: str, models: SavedModels) -> None:
        """Keep the plugin's models in place of those before.

        Raises
        ------
        ModelStoreError
            If they cannot be written; what was there before is still there, in whole.
        """

    async def forget(self, plugin: str) -> None:
        """Remove the plugin's models, if there are any.

        Raises
        ------
        ModelStoreError
            If they cannot be removed.
        """


class MemoryModelStore:
    """Models that end with the process."""

    def __init__(self) -> None:
        self._saved: dict[str, SavedModels] = {}

    async def load(self, plugin: str) -> SavedModels:
        """See `ModelStore.load`."""
        return self._saved.get(plugin, SavedModels())

    async def save(self, plugin: str, models: SavedModels) -> None:
        """See `ModelStore.save`."""
        self._saved[plugin] = models

    async def forget(self, plugin: str) -> None:
        """See `ModelStore.forget`."""
        self._saved.pop(plugin, None)


class DirectoryModelStore:
    """Models in files: a directory for each plugin, in it ``head`` and a file for each state.

    A file is flushed to the disk and then renamed, so that a crash leaves the old one or the new one.

    Parameters
    ----------
    directory
        Made with the first write if it is not there, with mode 0700; files have 0600.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = pathlib.Path(directory)

    async def load(self, plugin: str) -> SavedModels:
        """See `ModelStore.load`."""
        return await asyncio.to_thread(self._load, plugin)

    async def save(self, plugin: str, models: SavedModels) -> None:
        """See `ModelStore.save`."""
        await asyncio.to_thread(self._save, plugin, models)

    async def forget(self, plugin: str) -> None:
        """See `ModelStore.forget`."""
        await asyncio.to_thread(self._forget, plugin)

    def _load(self, plugin: str) -> SavedModels:
        place = self._place(plugin)
        with _told(place):
            head = _content(place / _HEAD, MAX_HEAD_BYTES)
            if head is None:
                return SavedModels()
            try:
                digests = SavedModels.digests_of(head)
            except ValueError as error:
                raise ModelStoreError(f"{place / _HEAD}: {error}") from error
            states = {digest: _content(place / _file_of(digest), MAX_STATE_BYTES) for digest in digests}
        return SavedModels.of(head, {digest: state for digest, state in states.items() if state is not None})

    def _save(self, plugin: str, models: SavedModels) -> None:
        place = self._place(plugin)
        with _told(place):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            wanted = {_file_of(digest): state for digest, state in models.states.items()}
            for name, state in wanted.items():
                if not (place / name).exists():
                    _write(place / name, state)
            _write(place / _HEAD, models.head())
            for path in place.iterdir():
                if path.name != _HEAD and path.name not in wanted:
                    path.unlink(missing_ok=True)

    def _forget(self, plugin: str) -> None:
        place = self._place(plugin)
        with _told(place):
            if not place.is_dir():
                return
            # The head first: without it the states are nothing.
            (place / _HEAD).unlink(missing_ok=True)
            for path in place.iterdir():
                path.unlink(missing_ok=True)
            place.rmdir()

    def _place(self, plugin: str) -> pathlib.Path:
        if not plugin or plugin.startswith(".") or "/" in plugin or "\0" in plugin:
            raise ModelStoreError(f"{plugin!r} is no name of a directory")
        return self._directory / plugin


def circumstances(source: PluginSource, config: Mapping[str, object] | None) -> str:
    """Return a digest of what a model depends on besides the history: the plugin's code and its settings."""
    made_of = {"source": source.model_dump(mode="json"), "config": dict(config or {})}
    return hashlib.sha256(msgspec.json.encode(made_of, order="deterministic")).hexdigest()


def _file_of(digest: str) -> str:
    return digest.replace(":", "-").replace("/", "-")


def _content(path: pathlib.Path, limit: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(content) > limit:
        raise ModelStoreError(f"{path} is longer than {limit} bytes")
    return content


def _write(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode from the start
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelStoreError(f"{error.filename or place}: {error.strerror or error}") from error


def _read(head: bytes) -> _Head:
    try:
        unpack = zlib.decompressobj()
        plain = unpack.decompress(head, MAX_HEAD_BYTES)
        if not unpack.eof:
            raise ValueError("models were saved incompletely, or are too large")
        read = msgspec.msgpack.decode(plain, type=_Head)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"saved models cannot be read: {error}") from error
    if read.format != _FORMAT:
        raise ValueError(f"models are saved in format {read.format}; this version reads {_FORMAT}")
    return read
