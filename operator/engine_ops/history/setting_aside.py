"""Damaged blobs are kept for people, out of the way."""

from __future__ import annotations

import contextlib
import logging

from engine_ops.history import names
from engine_ops.history.reading import Survey
from engine_ops.history.store import BlobStore, ConflictError, StoreError

logger = logging.getLogger(__name__)


async def set_aside(store: BlobStore, found: Survey) -> dict[str, str]:
    """Copy each damaged blob under another name, then delete it.

    Parameters
    ----------
    store
        Where it is.
    found
        What was read of it.

    Returns
    -------
    dict
        The new name by the old one, of those that could be moved.
    """
    moved: dict[str, str] = {}
    for blob, _ in found.damaged:
        content = blob.content or b""
        name = names.damaged_name(blob.name, content)
        labels = {names.WHAT: "damaged"}
        sequence = names.sequence_of(blob.name)
        if sequence is not None:
            labels[names.SEQUENCE] = str(sequence)  # so that nobody takes it for missing
        try:
            # It may have been copied before, when the process ended before the next line.
            with contextlib.suppress(ConflictError):
                await store.create(name, content, labels, sealed=True)
            await store.delete(blob.name, blob.version)
        except StoreError as error:
            logger.debug("%s is not set aside: %s", blob.name, error)
            continue
        moved[blob.name] = name
    return moved
