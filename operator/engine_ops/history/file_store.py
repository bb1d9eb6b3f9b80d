"""A history in a directory: one file a blob, replaced at once or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import ClassVar

import msgspec

from engine_ops.history.store import Blob, BlobStore, ConflictError, StoreRefusedError, StoreUnavailableError

SUFFIX = ".blob"
_MAGIC = b"EOFILE1\n"
_LENGTH_BYTES = 4
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,200}[a-z0-9])?")
_MAX_CAPTION_BYTES = 64 * 1024
# Another program holds the file, or the disk fails for now; everything else (space, rights) is a refusal.
_PASSING = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE})


class _Caption(msgspec.Struct, array_like=True):
    """What stands before the content."""

    token: str
    sealed: bool
    labels: dict[str, str]


class FileStore(BlobStore):
    """Blobs as files of one directory, which only its owner can read.

    Each write goes to a new file that is flushed to the disk and then renamed, so that a crash leaves the old blob or
    the new one. Processes that share the directory take turns by a lock file; it works across machines where the file
    system has locks.

    Parameters
    ----------
    directory
        Made with the first write if it is not there, with mode 0700; files have 0600.
    """

    max_blob_bytes: ClassVar[int] = 1 << 30
    lists_whole: ClassVar[bool] = False

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)

    async def list(self, *, contents: bool = True) -> list[Blob]:
        """See `BlobStore.list`."""
        with _translated(self.directory):
            if not self.directory.is_dir():
                return []
            with self._locked(fcntl.LOCK_SH):
                names = sorted(path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}"))
                found = [self._load(name, contents) for name in names if _NAME.fullmatch(name)]
        return [blob for blob in found if blob is not None]

    async def read(self, name: str) -> Blob | None:
        """See `BlobStore.read`."""
        with _translated(self.directory):
            return self._load(name, True)

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        """See `BlobStore.create`."""
        with self._writing():
            if self._path(name).exists():
                raise ConflictError(f"{self._path(name)} is there already")
            return self._put(name, content, labels, sealed)

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        """See `BlobStore.replace`."""
        with self._writing():
            self._check(name, version)
            return self._put(name, content, labels, False)

    async def delete(self, name: str, version: str | None = None) -> None:
        """See `BlobStore.delete`."""
        with _translated(self.directory):
            if not self.directory.is_dir():
                return
            with self._locked(fcntl.LOCK_EX):
                if not self._path(name).exists():
                    return
                if version is not None:
                    self._check(name, version)
                self._path(name).unlink(missing_ok=True)
                self._sync_directory()

    def _path(self, name: str) -> pathlib.Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a blob: lower-case letters, digits and dashes")
        return self.directory / f"{name}{SUFFIX}"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with _translated(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked(fcntl.LOCK_EX):
                # What a process left behind that was killed while it wrote; nobody else writes now.
                for left in self.directory.glob(".*.tmp"):
                    left.unlink(missing_ok=True)
                yield

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        try:
            lock = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # A history on read-only media can be read: nobody writes there.
            if how == fcntl.LOCK_SH and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                yield
                return
            raise
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    def _load(self, name: str, contents: bool) -> Blob | None:
        try:
            with self._path(name).open("rb") as file:
                status = os.fstat(file.fileno())
                caption = _read_caption(file.read(len(_MAGIC) + _LENGTH_BYTES), file)
                content = file.read() if contents and caption is not None else None
        except FileNotFoundError:
            return None
        where, written_ms = f"{status.st_size}-{status.st_mtime_ns}", status.st_mtime_ns // 1_000_000
        if caption is None:
            return Blob(name, where, None, {}, written_ms=written_ms)
        return Blob(name, f"{caption.token}-{where}", content, caption.labels, caption.sealed, written_ms)

    def _check(self, name: str, version: str) -> None:
        blob = self._load(name, False)
        if blob is None or blob.version != version:
            raise ConflictError(f"{self._path(name)} was changed by somebody else")

    def _put(self, name: str, content: bytes, labels: Mapping[str, str], sealed: bool) -> str:
        token = secrets.token_hex(8)
        caption = msgspec.msgpack.encode(_Caption(token, sealed, dict(labels)))
        path, temporary = self._path(name), self.directory / f".{name}.{token}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode from the start
                file.write(_MAGIC + len(caption).to_bytes(_LENGTH_BYTES, "little") + caption)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                status = os.fstat(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_directory()
        return f"{token}-{status.st_size}-{status.st_mtime_ns}"

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_caption(start: bytes, file: object) -> _Caption | None:
    """Return what stands before the content, or None where the file is no blob any more."""
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + _LENGTH_BYTES:
        return None
    length = int.from_bytes(start[len(_MAGIC) :], "little")
    if length > _MAX_CAPTION_BYTES:
        return None
    try:
        return msgspec.msgpack.decode(file.read(length), type=_Caption)  # type: ignore[attr-defined]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _translated(directory: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreUnavailableError if error.errno in _PASSING else StoreRefusedError
        raise kind(f"{error.filename or directory}: {error.strerror or error}") from error
