"""Logs: JSON that a collector reads line by line, text that nobody can forge."""

from __future__ import annotations

import datetime
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.cli.logs import JsonFormatter, TextFormatter, configure_logging
from engine_ops.kube.paths import PLUGIN
from engine_ops.kube.target import Target


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours, kopf = (logging.getLogger(name) for name in (None, "engine_ops", "kopf"))
    handlers, levels = list(root.handlers), [logger.level for logger in (root, ours, kopf)]
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, ours, kopf), levels, strict=True):
        logger.setLevel(level)


def logged(stream: io.StringIO, log_format: str, level: int = logging.INFO) -> logging.Logger:
    configure_logging(log_format, level, stream)
    return logging.getLogger("engine_ops.test")


def entry(*args: Any, level: int = logging.WARNING, **more: Any) -> dict[str, Any]:
    record = logging.LogRecord("engine_ops.test", level, "", 1, args[0], args[1:], None)
    record.__dict__.update(more)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "\r" not in line
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def test_an_entry_has_its_time_in_utc_its_level_its_logger_and_its_message() -> None:
    said = entry("%d of %d", 3, 4, created=1_700_000_000.1239)
    assert said == {
        "timestamp": "2023-11-14T22:13:20.123Z",
        "level": "warning",
        "logger": "engine_ops.test",
        "message": "3 of 4",
    }
    assert datetime.datetime.fromisoformat(said["timestamp"]).tzinfo is datetime.UTC


def test_an_entry_about_an_object_names_it() -> None:
    said = entry("%s: trying again", Target("shop", "a", "u", 1))
    assert (said["kind"], said["namespace"], said["name"]) == ("OptimizationRequest", "shop", "a")
    assert said["message"] == "shop/a: trying again"
    said = entry("%s: trying again after %s", Target("", "p", "u", 1, PLUGIN), "that")
    assert (said["kind"], said["name"], "namespace" in said) == ("OptimizerPlugin", "p", False)


def test_an_entry_of_kopf_names_its_object() -> None:
    said = entry("no", k8s_ref={"kind": "OptimizationRequest", "namespace": "n", "name": "a", "uid": "u"})
    assert (said["kind"], said["namespace"], said["name"]) == ("OptimizationRequest", "n", "a")
    assert entry("no", k8s_ref=None).keys() == {"timestamp", "level", "logger", "message"}


def test_an_exception_is_one_field_of_one_line() -> None:
    stream = io.StringIO()
    logger = logged(stream, "json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logger.exception("it failed")
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert said["level"] == "error"
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: first\nsecond")


@given(st.text())
def test_any_message_is_one_line_of_json_that_says_it(message: str) -> None:
    assert entry("%s", message)["message"] == message


def test_what_is_no_text_is_written_all_the_same() -> None:
    assert entry("%s", "a\udc80b")["message"] == "a\udc80b"


@given(st.text())
def test_no_message_can_forge_a_line_or_move_the_cursor(message: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "%s", (message,), None)
    line = TextFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", line)


def test_a_traceback_keeps_its_lines() -> None:
    stream = io.StringIO()
    logger = logged(stream, "text")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    first, second, *_, last = stream.getvalue().splitlines()
    assert first.endswith("ERROR   engine_ops.test: it failed")
    assert (second, last) == ("Traceback (most recent call last):", "ValueError: no")


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colours_are_for_terminals(
    stream: type[io.StringIO], variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = stream()
    logged(made, "text").warning("look")
    assert ("\x1b[33m" in made.getvalue()) is coloured
    plain = stream()
    logged(plain, "json").warning("look")
    assert "\x1b" not in plain.getvalue()


def test_kopf_is_heard_from_warnings_on_unless_everything_is() -> None:
    stream = io.StringIO()
    logged(stream, "text", logging.INFO)
    logging.getLogger("kopf.objects").info("handled")
    logging.getLogger("somebody").info("else")
    logging.getLogger("engine_ops.x").debug("detail")
    assert stream.getvalue() == ""
    logged(stream, "text", logging.DEBUG)
    logging.getLogger("kopf.objects").info("handled")
    assert "handled" in stream.getvalue()
