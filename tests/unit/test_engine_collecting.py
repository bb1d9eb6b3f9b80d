"""The pause of the garbage collector ends as it began."""

from __future__ import annotations

import gc

import pytest

from engine_ops.engine.collecting import collection_paused


def _fail_inside() -> None:
    with collection_paused():
        assert not gc.isenabled()
        raise ValueError("inside")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before(enabled: bool) -> None:
    if not enabled:
        gc.disable()
    try:
        with pytest.raises(ValueError, match="inside"):
            _fail_inside()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
