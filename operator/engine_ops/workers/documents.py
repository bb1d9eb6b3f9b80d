"""Reading what a user wrote: JSON, or YAML that could as well be JSON."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec
import yaml

from engine_ops.api.faults import Fault, InvalidDataError

MAX_YAML_BYTES = 4 * 2**20
"""Longer YAML is refused; YAML takes a hundred times as long to read as JSON. A ConfigMap ends at 1 MiB."""

MAX_DEPTH = 100
"""YAML nested more deeply is refused."""

_TAG = "tag:yaml.org,2002:"


def read_json(text: bytes, path: str) -> dict[str, Any]:
    """Read the JSON of an object.

    Parameters
    ----------
    text
        UTF-8.
    path
        How a fault names it.

    Raises
    ------
    InvalidDataError
        If it is not JSON, or not an object.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(path, f"is not JSON: {error}") from error
    return _object(value, path)


def read_json_or_yaml(text: bytes, path: str) -> dict[str, Any]:
    """Read an object from JSON, or else from YAML.

    Of YAML only what JSON can say is taken: no aliases (a few lines of them stand for gigabytes), no tags, one
    document, keys that are strings. Dates stay strings.

    Parameters
    ----------
    text
        UTF-8.
    path
        How a fault names it.

    Raises
    ------
    InvalidDataError
        If it is neither, or not an object.
    """
    try:
        return _object(msgspec.json.decode(text), path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        json_error = error
    if len(text) > MAX_YAML_BYTES:
        raise _invalid(
            path,
            f"is not JSON ({json_error}), and with {len(text)} bytes too long for YAML (at most {MAX_YAML_BYTES}): "
            "write it as JSON",
        )
    try:
        decoded = text.decode("utf-8")
        _check_events(decoded)
        value = yaml.load(decoded, Loader=_JSONLoader)  # noqa: S506 -- a safe loader, with less than its tags
    except UnicodeDecodeError as error:
        raise _invalid(path, f"is not UTF-8 text: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _invalid(path, f"is neither JSON ({json_error}) nor YAML ({_one_line(error)})") from error
    return _object(value, path)


class _NotPlainError(ValueError):
    """The YAML says what JSON cannot.

    Parameters
    ----------
    problem
        What.
    mark
        Where.
    """

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(f"{problem}{_where(mark)}")


def _check_events(text: str) -> None:
    """Refuse aliases, and nesting that would exhaust the stack of the C composer, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _NotPlainError(f"nested deeper than {MAX_DEPTH}", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            raise _NotPlainError(
                f"the alias *{event.anchor} is not supported, write out what it stands for", event.start_mark
            )


class _JSONLoader(yaml.CSafeLoader):
    """A safe loader for the YAML that JSON can say as well."""

    yaml_implicit_resolvers = {  # noqa: RUF012 -- as the base class declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012 -- as the base class declares it
        tag: constructor
        for tag, constructor in yaml.CSafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in {"null", "bool", "int", "float", "str", "seq", "map"}
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping whose keys are distinct strings."""
        seen = set()
        for key, _ in node.value:
            if key.tag != f"{_TAG}str":
                raise _NotPlainError("a key must be a string, quote it", key.start_mark)
            if key.value in seen:
                raise _NotPlainError(f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _object(value: object, path: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    kind = {list: "a list", str: "a string", type(None): "nothing", bool: "a boolean"}.get(type(value), "a number")
    raise _invalid(path, f"must be an object, is {kind}")


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem is not None:
        return f"{error.problem}{_where(error.problem_mark)}"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _where(mark: Any) -> str:
    return "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"


def _invalid(path: str, message: str) -> InvalidDataError:
    return InvalidDataError([Fault(path, message)])


def rename_root(faults: tuple[Fault, ...], roots: Mapping[str, str]) -> list[Fault]:
    """Return the faults with the first word of their paths replaced, where ``roots`` has it.

    >>> rename_root((Fault("data.items[3].cpu", "is negative"),), {"data": "spec.data"})
    [Fault(path='spec.data.items[3].cpu', message='is negative')]
    """
    renamed = []
    for fault in faults:
        path = fault.path
        for root, name in roots.items():
            if path == root or path.startswith((f"{root}.", f"{root}[")):
                path = name + path[len(root) :]
                break
        renamed.append(Fault(path, fault.message))
    return renamed
