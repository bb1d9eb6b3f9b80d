"""As much of the Dockerfile format as this project's Dockerfile uses; anything else is refused, not guessed."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path


class DockerfileError(ValueError):
    """The Dockerfile has something that this reader does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A command for ``/bin/sh -c``, in a directory, with the stage's environment so far."""

    command: str
    directory: str
    environment: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """Files to copy, from the build context or from an earlier stage."""

    sources: tuple[str, ...]
    destination: str
    stage: str | None


@dataclasses.dataclass(slots=True)
class Stage:
    """What one FROM starts."""

    name: str
    image: str
    steps: list[Run | Copy] = dataclasses.field(default_factory=list)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = dataclasses.field(default_factory=list)
    command: list[str] = dataclasses.field(default_factory=list)


def read_dockerfile(path: Path, *, base_path: str) -> list[Stage]:
    """Read the stages of a Dockerfile.

    Parameters
    ----------
    path
        The file.
    base_path
        PATH in the base image.

    Raises
    ------
    DockerfileError
        If it has an instruction that is not known here.
    """
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for word, rest in _instructions(path.read_text(encoding="utf-8")):
        if word == "ARG" and not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            image, *alias = re.split(r"\s+AS\s+", rest, flags=re.IGNORECASE)
            name = alias[0] if alias else str(len(stages))
            stages.append(Stage(name, _expand(image, arguments), environment={"PATH": base_path}))
        elif not stages:
            raise DockerfileError(f"{word} before FROM")
        else:
            _apply(stages[-1], word, rest)
    return stages


def _apply(stage: Stage, word: str, rest: str) -> None:
    match word:
        case "RUN":
            stage.steps.append(Run(rest, stage.directory, dict(stage.environment)))
        case "COPY":
            words = shlex.split(rest)
            origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
            if any(word.startswith("--") for word in words):
                raise DockerfileError(f"an option of COPY that is not known here: {rest}")
            *sources, destination = words
            stage.steps.append(Copy(tuple(sources), str(Path(stage.directory, destination)), origin))
        case "ENV":
            before = dict(stage.environment)
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                stage.environment[name] = _expand(value, before)
        case "WORKDIR":
            stage.directory = str(Path(stage.directory, rest))
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case "LABEL":
            pass
        case _:
            raise DockerfileError(f"an instruction that is not known here: {word}")


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        found.append((word.upper(), rest.strip()))
    return found


def _expand(text: str, values: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            raise DockerfileError(f"{name} has no value")
        return values[name]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value_of, text)
