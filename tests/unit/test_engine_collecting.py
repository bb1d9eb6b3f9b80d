"""The pause of the garbage collector ends as it began."""

from __future__ import annotations

import gc

import pytest

from engine_ops.engine.collecting import collection_paused


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before(enabled: bool) -> None:
    if not enabled:
        gc.disable()
    try:
        with pytest.raises(ValueError, match="inside"), collection_paused():
            assert not gc.isenabled()
            raise ValueError("inside")
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
