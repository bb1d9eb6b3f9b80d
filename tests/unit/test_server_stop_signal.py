"""What is asked to stop is told so: once, at once, and only while it listens."""

from __future__ import annotations

from engine_ops.server.stop_signal import StopSignal


def test_who_listens_is_told_once() -> None:
    signal, told = StopSignal(), []
    with signal.calling(lambda: told.append("a")), signal.calling(lambda: told.append("b")):
        assert (signal.is_set(), told) == (False, [])
        signal.set()
        signal.set()
    assert (signal.is_set(), told) == (True, ["a", "b"])


def test_who_comes_late_is_told_at_once_and_who_has_gone_is_not() -> None:
    signal, told = StopSignal(), []
    with signal.calling(lambda: told.append("gone")):
        pass
    signal.set()
    with signal.calling(lambda: told.append("late")):
        assert told == ["late"]


def test_who_goes_while_others_are_told_changes_nothing_for_them() -> None:
    signal, told = StopSignal(), []
    first = signal.calling(lambda: told.append("first"))
    second = signal.calling(lambda: (told.append("second"), first.__exit__(None, None, None)))
    with second:
        first.__enter__()
        signal.set()
    assert told == ["second", "first"]
