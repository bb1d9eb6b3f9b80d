"""Colours: on a terminal only, and not where ``NO_COLOR`` is set."""

from __future__ import annotations

import enum
import os
import sys
from typing import Final, Self

_END: Final = "\x1b[0m"


class Colour(enum.StrEnum):
    """What a colour says, as the terminal's code for it."""

    GOOD = "\x1b[32m"
    BAD = "\x1b[31m"
    WAITING = "\x1b[33m"
    PALE = "\x1b[2m"


class Painted(str):
    """A text that has a colour where colours are wanted. Of the same length and value as without one."""

    __slots__ = ("colour",)
    colour: Colour

    def __new__(cls, text: str, colour: Colour) -> Self:
        """Make one."""
        made = super().__new__(cls, text)
        made.colour = colour
        return made


def colours_wanted() -> bool:
    """Whether standard output is a terminal whose user wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(text: str, shown: str | None = None) -> str:
    """Return what is to be printed of a text: with its colour, if it has one and it is wanted.

    Parameters
    ----------
    text
        Perhaps `Painted`.
    shown
        What stands in its place, such as the text with blanks after it.
    """
    printed = str(text) if shown is None else shown
    if isinstance(text, Painted) and text and colours_wanted():
        return f"{text.colour}{printed}{_END}"
    return printed
