"""Names of a package that are loaded on first use, so that importing the package stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], public: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return what a package's ``__getattr__`` and ``__dir__`` are to be.

    Parameters
    ----------
    package
        Its ``__name__``.
    homes
        The module that each name is loaded from.
    public
        Its ``__all__``.
    """

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home), name)

    def list_names() -> list[str]:
        return sorted(public)

    return load, list_names
