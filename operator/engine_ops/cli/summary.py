"""What the table of `engine-ops solve` says below it: each answer in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.api.status import READY, find
from engine_ops.cli.answering import Answered
from engine_ops.cli.printing import format_table, safe

MAX_LINES: Final = 10
"""A longer answer is cut; -o yaml and -o json print all of it."""

MAX_NAMES: Final = 5
"""A longer list of nodes is cut."""

_HEADERS: Final = ("NAME", "TYPE", "READY", "REASON", "SOLVED-BY", "SCORE")


def format_answers(answers: Sequence[Answered]) -> str:
    """Return the table, as kubectl get prints it, and below it each answer in short."""
    many_namespaces = len({answered.request.namespace for answered in answers}) > 1
    headers = ("NAMESPACE", *_HEADERS) if many_namespaces else _HEADERS
    rows = [
        (answered.request.namespace, *_row(answered)) if many_namespaces else _row(answered) for answered in answers
    ]
    # Faults are on standard error, each in full.
    shown = [answered for answered in answers if not answered.faults]
    return format_table(headers, rows) + "".join("\n" + "\n".join(_short(answered)) + "\n" for answered in shown)


def _row(answered: Answered) -> tuple[str, ...]:
    status = answered.status
    ready = find(status, READY) or {}
    score = status.get("metrics", {}).get("score")
    spec = answered.request.body.get("spec")
    kind = spec.get("type") if isinstance(spec, dict) else None
    return (
        answered.request.name,
        str(kind or ""),
        ready.get("status", ""),
        ready.get("reason", ""),
        status.get("solvedBy", {}).get("name", ""),
        "" if score is None else f"{score:g}",
    )


def _short(answered: Answered) -> list[str]:
    ready = find(answered.status, READY) or {}
    lines = [safe(f"{answered.request.name}: {ready.get('message', '')}")]
    result, spec = answered.status.get("result"), answered.request.spec
    if result and spec is not None:
        # First what is not modelled: the rest may be cut, and depends on it.
        details = [safe(line) for line in (*_not_modelled(result), *_DETAILS[spec.type.value](result))]
        more = len(details) - MAX_LINES
        lines += [f"  {line}" for line in details[:MAX_LINES]]
        if more > 0:
            lines.append(f"  and {more} more: -o yaml prints all")
    return lines


def _resource(result: Mapping[str, Any]) -> Iterator[str]:
    types = Counter(node["type"] for node in result["nodes"] if "type" in node)
    if "currentNodeCount" in result:
        yield from _repacking(result, types)
    elif types:
        yield "nodes: " + ", ".join(f"{count} {name}" for name, count in types.items())
    for item in result["unplacedItems"]:
        yield f"not placed: {item['count']} {item['id']}: {item['reason']}"


def _repacking(result: Mapping[str, Any], types: Counter[str]) -> Iterator[str]:
    if types:
        # Names of types that are sizes have commas.
        listed = "; ".join(f"{count:,} x {name}" for name, count in types.most_common(MAX_NAMES))
        more = len(types) - MAX_NAMES
        yield f"nodes in use: {listed}" + (f"; and {more} more types" if more > 0 else "")
    moves = result.get("moves")
    if moves is not None:
        count = moves if isinstance(moves, int) else len(moves)
        yield f"moves: {count:,} pod{'' if count == 1 else 's'}"
    empty = result.get("emptyNodes", ())
    if empty:
        more = len(empty) - MAX_NAMES
        listed = ", ".join(empty[:MAX_NAMES])
        yield f"empty nodes: {listed}" + (f" and {more:,} more" if more > 0 else "")


def _not_modelled(result: Mapping[str, Any]) -> Iterator[str]:
    for found in result.get("notModelled", ()):
        pods = found["pods"]
        yield f"not modelled: {found['feature']} of {pods:,} pod{'' if pods == 1 else 's'}, such as {found['example']}"


def _scheduling(result: Mapping[str, Any]) -> Iterator[str]:
    after = result.get("estimatedLoadAfter")
    if after is not None:
        cpu, memory = after["cpu"], after["memory"]
        # The result has percent, or cores and bytes where nodes have a capacity; no node ends at 100 bytes.
        texts = (f"{cpu:g} %", f"{memory:g} %") if memory <= 100 else (format_cpu(cpu), format_bytes(memory))
        yield f"load after: cpu {texts[0]}, memory {texts[1]}"
    for placement in result.get("placements", ()):
        yield f"{placement['taskId']}: {placement.get('nodeId') or placement['reason']}"


def _performance(result: Mapping[str, Any]) -> Iterator[str]:
    for container in result["containers"]:
        parts = [
            f"{field} {', '.join(f'{name} {amount}' for name, amount in container[field].items())}"
            for field in ("requests", "limits")
            if container[field]
        ]
        yield f"{container['name']}: {'; '.join(parts)}"


def _free_form(_result: Mapping[str, Any]) -> Iterator[str]:
    yield from ()


_DETAILS: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "resource": _resource,
    "scheduling": _scheduling,
    "performance": _performance,
    "ml-driven": _free_form,
}
