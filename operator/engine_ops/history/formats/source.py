"""A file as lines, whatever it was packed with and however it ends its lines."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from engine_ops.history.formats.faults import Fault, FormatError, OnFault

MAX_LINE_BYTES: Final = 1024 * 1024
"""A longer line is a fault. No point that the operator writes is nearly as long."""

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One file to import; it can be read more than once.

    Parameters
    ----------
    path
        Where it is.
    name
        What messages call it.
    """

    path: Path
    name: str

    @classmethod
    def of(cls, path: str | Path) -> Source:
        """Return a file under its own name."""
        return cls(Path(path), str(path))

    def fault(self, why: str, line: int | None = None, field: str = "") -> Fault:
        """Return a fault of this file."""
        return Fault(self.name, line, field, why)

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it, unpacked if it is gzip, whatever its name says.

        Raises
        ------
        FormatError
            If it is not there, or is empty, cut, damaged, or in another encoding than UTF-8.
        """
        try:
            with self.path.open("rb") as raw:
                if raw.peek(2)[:2] == _GZIP:
                    with gzip.GzipFile(fileobj=raw) as packed:
                        yield cast("BinaryIO", io.BufferedReader(packed, 1 << 16))
                else:
                    yield raw
        except EOFError as error:
            raise FormatError(self.fault("the gzip data ends too early: the file is cut")) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(self.fault(f"the gzip data is damaged: {error}")) from error
        except OSError as error:
            raise FormatError(self.fault((error.strerror or str(error)).lower())) from error

    def head(self, size: int = 65536) -> bytes:
        """Return its first bytes, unpacked. Raises as `open` does, and if it is empty."""
        with self.open() as file:
            head = file.read(size)
        if not head.strip():
            raise FormatError(self.fault("is empty"))
        if head.startswith(_UTF_16):
            raise FormatError(self.fault("is UTF-16; write it as UTF-8"))
        return head.removeprefix(_BOM)

    def lines(self, on_fault: OnFault) -> Iterator[tuple[int, str]]:
        """Yield each line that is not blank, without its end, and its number.

        Raises
        ------
        FormatError
            As `open` does; the message names the last line that could be read.
        """
        number = 0
        self.head(8)
        try:
            with self.open() as file:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    number += 1
                    if len(line) > MAX_LINE_BYTES:
                        while line and not line.endswith(b"\n"):
                            line = file.readline(MAX_LINE_BYTES)
                        on_fault(self.fault(f"is longer than {MAX_LINE_BYTES:,} bytes", number))
                        continue
                    if number == 1:
                        line = line.removeprefix(_BOM)
                    try:
                        text = line.decode()
                    except UnicodeDecodeError as error:
                        on_fault(self.fault(f"is not UTF-8 (byte {error.start + 1})", number))
                        continue
                    if text.strip(" \t\r\n"):
                        yield number, text.rstrip("\r\n")
        except FormatError as error:
            if error.fault.line is not None or number == 0:
                raise
            raise FormatError(dataclasses.replace(error.fault, line=number)) from error
