"""Where history is kept: named blobs with versions. The protocol above them is in `engine_ops.history.log`."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar


class StoreError(RuntimeError):
    """The store could not do what was asked; nothing was changed, or it is not known whether it was.

    Parameters
    ----------
    message
        What was wrong.
    retry_after_seconds
        What the store asked to be left alone for, if it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailableError(StoreError):
    """It did not answer; trying again later may help."""


class StoreRefusedError(StoreError):
    """It answered and refused: a right, a quota, a size. The message says which."""


class ConflictError(StoreError):
    """The blob is not as it was when its version was read: it was changed, made or deleted by somebody else."""


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """One blob as it is stored.

    Parameters
    ----------
    name
        Lower-case letters, digits and dashes.
    version
        Changes whenever the blob does.
    content
        Its bytes; None where they are missing though the blob is there, or where only its labels were asked for.
    labels
        What can be read of it without the content; see `engine_ops.history.log`.
    sealed
        Whether the store lets nobody change the content.
    written_ms
        When it was written last, by the store's clock (epoch milliseconds); None where the store does not tell.
    """

    name: str
    version: str
    content: bytes | None
    labels: Mapping[str, str]
    sealed: bool = False
    written_ms: int | None = None


class BlobStore(abc.ABC):
    """A flat set of blobs with compare-and-swap.

    Every method raises `StoreUnavailableError` or `StoreRefusedError` where the store does not answer or refuses.
    A store on this machine never suspends in them, so that synchronous code can drive them.
    """

    max_blob_bytes: ClassVar[int]
    """No content may be longer."""
    lists_whole: ClassVar[bool] = True
    """Whether `list` with contents is the best way to read all; else they are better read one by one."""

    @abc.abstractmethod
    async def list(self, *, contents: bool = True) -> list[Blob]:
        """Return every blob of the history as they were at one instant, in the order of their names.

        Parameters
        ----------
        contents
            False leaves them out: for histories that are read segment by segment.
        """

    @abc.abstractmethod
    async def read(self, name: str) -> Blob | None:
        """Return one blob, or None if it is not there."""

    @abc.abstractmethod
    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        """Make a blob and return its version.

        Raises
        ------
        ConflictError
            If there is one of that name.
        """

    @abc.abstractmethod
    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        """Replace a blob that is still at ``version``, and return its new version.

        Raises
        ------
        ConflictError
            If it is at another version, or gone.
        """

    @abc.abstractmethod
    async def delete(self, name: str, version: str | None = None) -> None:
        """Delete a blob, if it is there; with a version, only if it is still at it.

        Raises
        ------
        ConflictError
            If it is at another version.
        """
