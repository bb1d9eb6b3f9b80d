"""The documentation, held to what it describes: manifests, links, commands, reasons, code."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml
from demo_cluster import demo_input, demo_selection, demo_snapshot
from pydantic import ValidationError

from engine_ops.api.optimizationrequest import OptimizationRequest, OptimizationRequestSpec
from engine_ops.api.optimizerplugin import OptimizerPlugin
from engine_ops.api.reasons import Reason
from engine_ops.cli.fills import picture_of
from engine_ops.cli.main import main
from engine_ops.controllers.solving import task_for
from engine_ops.engine.cluster.solvers import cluster_solver_for
from engine_ops.engine.solvers import solver_for
from engine_ops.workers.documents import read_json_or_yaml
from engine_ops.workers.messages import Failed, Outcome, SolveTask
from engine_ops.workers.solve import evaluate

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = sorted({*DOCS, *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md"), *(ROOT / "examples").rglob("*.md")})
GUIDES = [page for page in DOCS if "user-guide" in str(page.relative_to(ROOT))]
PLUGIN_GUIDE = ROOT / "docs" / "plugin-guide.md"
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^\s)>]+)>?[^)]*\)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELLS = {"sh", "bash", "shell", "console"}


@dataclasses.dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.info[0] if self.info else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, tuple(match["info"].split()), match["text"])


BLOCKS = [block for page in DOCS for block in blocks_of(page)]
YAML_BLOCKS = [block for block in BLOCKS if block.language in {"yaml", "yml"}]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A request in a block, and the documents around it."""

    block: Block
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def is_invalid(self) -> bool:
        return "invalid" in self.block.info

    def __str__(self) -> str:
        return f"{self.block}-{self.name}"

    def config_map_key(self, name: str, key: str) -> bytes:
        for document in documents_of(self.block):
            if document["kind"] == "ConfigMap" and document["metadata"]["name"] == name:
                return str(document["data"][key]).encode()
        raise AssertionError(f"{self}: ConfigMap {name} is not in the same block")

    def task(self) -> SolveTask:
        spec = OptimizationRequestSpec.model_validate(self.manifest["spec"])
        data, cluster = msgspec.json.encode(spec.data or {}), None
        if spec.config_map_key_ref is not None:
            data = self.config_map_key(spec.config_map_key_ref.name, spec.config_map_key_ref.key)
        elif spec.cluster is not None:
            cluster = demo_input(spec)
        spec = spec.model_copy(update={"search_seconds": min(spec.search_seconds, 1), "plugin": None})
        task = task_for(spec, data, task_id=str(self), cluster=cluster, inline_limit_bytes=2**25)
        return msgspec.structs.replace(task, data_path="spec.data")


@functools.cache
def answer_of(name: str) -> Outcome:
    """Solve a request once for all tests that look at it."""
    (sample,) = (sample for sample in REQUESTS if str(sample) == name)
    return evaluate(sample.task())


def documents_of(block: Block) -> list[dict[str, Any]]:
    found = [document for document in yaml.safe_load_all(block.text) if document is not None]
    return [document for document in found if isinstance(document, dict) and "kind" in document]


def samples(kind: str) -> list[Sample]:
    return [
        Sample(block, document) for block in YAML_BLOCKS for document in documents_of(block) if document["kind"] == kind
    ]


REQUESTS = samples("OptimizationRequest")


def test_there_is_something_to_check() -> None:
    assert {sample.manifest["spec"]["type"] for sample in REQUESTS} == {
        "resource",
        "scheduling",
        "performance",
        "ml-driven",
    }
    assert any(sample.is_invalid for sample in REQUESTS)
    assert any(COMMANDS), "no command line in the documentation"


@pytest.mark.parametrize("sample", [sample for sample in REQUESTS if not sample.is_invalid], ids=str)
def test_requests_are_valid_and_answered(sample: Sample) -> None:
    OptimizationRequest.model_validate(sample.manifest)
    outcome = answer_of(str(sample))
    if isinstance(outcome, Failed):
        assert outcome.waiting, outcome.message
        assert outcome.reason == Reason.NO_PLUGIN


@pytest.mark.parametrize("sample", [sample for sample in REQUESTS if sample.is_invalid], ids=str)
def test_requests_shown_as_wrong_are_wrong(sample: Sample) -> None:
    try:
        OptimizationRequest.model_validate(sample.manifest)
    except ValidationError:
        return
    outcome = answer_of(str(sample))
    assert isinstance(outcome, Failed)
    assert outcome.reason == Reason.INVALID_DATA
    page = sample.block.page.read_text(encoding="utf-8")
    for path, message in outcome.faults:
        assert f"{path}: {message}" in page, "the page shows another fault"


def test_plugins_are_valid() -> None:
    for sample in samples("OptimizerPlugin"):
        OptimizerPlugin.model_validate(sample.manifest)


@pytest.mark.parametrize("sample", [sample for sample in REQUESTS if sample.block.page in GUIDES], ids=str)
def test_the_answer_that_a_guide_shows_is_the_answer(sample: Sample) -> None:
    """A line `NAME: ...` of a printed example is the message, or the title of the explanation."""
    if sample.is_invalid:
        return
    prefix = f"{sample.name}: "
    shown = [
        line.removeprefix(prefix)
        for block in blocks_of(sample.block.page)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith(prefix)
    ]
    told = set(true_lines(sample)) if shown else set()
    assert set(shown) <= told


def true_lines(sample: Sample) -> Iterator[str]:
    task = sample.task()
    outcome = answer_of(str(sample))
    yield outcome.message
    if isinstance(outcome, Failed):
        yield "no answer to explain"
        return
    data = read_json_or_yaml(task.data, "data")
    constraints, result = msgspec.json.decode(task.constraints), msgspec.json.decode(outcome.result)
    if not task.cluster:
        yield solver_for(task.type).explain(data, constraints, result).title
        return
    spec = OptimizationRequestSpec.model_validate(sample.manifest["spec"])
    solver: Any = cluster_solver_for(task.type, demo_snapshot(), demo_selection(spec))
    yield solver.explain(data, constraints, result).title
    yield picture_of(demo_snapshot(), result, {}).headline
    for placement in result.get("placements", ()):
        yield solver.explain_task(data, constraints, result, placement["taskId"]).title


PYTHON_BLOCKS = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# Other pages' code needs a cluster.
@pytest.mark.parametrize("block", [block for block in PYTHON_BLOCKS if block.page in {README, *GUIDES}], ids=str)
def test_python_runs_and_prints_what_its_comments_say(block: Block) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})  # noqa: S102 -- our own page
    expected = re.findall(r"^print\(.*\)  # (.+)$", block.text, re.MULTILINE)
    assert expected, "nothing to compare"
    assert output.getvalue().splitlines() == expected


def test_the_plugin_guide_is_one_program(clean_plugin_registry: None) -> None:
    """Its blocks run in their order, with the names of those before, and print what their comments say."""
    names: dict[str, Any] = {"__name__": "plugin_guide"}
    printing = 0
    for block in (block for block in PYTHON_BLOCKS if block.page == PLUGIN_GUIDE):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 -- our own page
        expected = re.findall(r"^print\(.*\)  # (.+)$", block.text, re.MULTILINE)
        assert output.getvalue().splitlines() == expected, str(block)
        printing += len(expected)
    assert printing > 10
    contract = names["TestRatePlugin"]
    tests = [name for name in dir(contract) if name.startswith("test_")]
    assert len(tests) > 8
    for name in tests:
        getattr(contract(), name)()


@pytest.fixture
def clean_plugin_registry() -> Iterator[None]:
    from engine_ops import plugin_registry

    yield
    plugin_registry.clear()


# --- links


def prose_of(page: Path) -> str:
    """Return a page without its code."""
    return SPAN.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        names = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(1)))
        anchors.add(next(name for name in names if name not in anchors))
    return anchors


LINKS = [
    (page, target)
    for page in PAGES
    for target in sorted(set(LINK.findall(prose_of(page))))
    if not re.match(r"[a-z][a-z0-9+.-]*:", target)
]


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=[f"{page.relative_to(ROOT)}->{target}" for page, target in LINKS]
)
def test_links_resolve(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    assert not path.startswith("/"), "a link from the root of a file system"
    file = (page.parent / path).resolve() if path else page
    assert file.is_relative_to(ROOT), "a link out of the repository"
    assert file.exists(), f"{file.relative_to(ROOT)} is not there"
    if anchor and file.suffix == ".md":
        assert anchor in anchors_of(file)


# --- command lines


@dataclasses.dataclass(frozen=True)
class CommandLine:
    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}-{' '.join(self.words)}"


def command_lines() -> Iterator[CommandLine]:
    for block in BLOCKS:
        if block.language in SHELLS:
            for line in shell_lines(block):
                yield from (CommandLine(str(block), words) for words in engine_ops_calls(line))
    for page in DOCS:
        for span in SPAN.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            name = str(page.relative_to(ROOT))
            yield from (CommandLine(name, words) for words in engine_ops_calls(span))


def shell_lines(block: Block) -> Iterator[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    prompted = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
    yield from prompted if block.language == "console" or prompted else lines


def engine_ops_calls(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the words after `engine-ops` for each call of it in a shell line."""
    if "engine-ops" not in line:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # half a quotation: no command line
        return
    for is_operator, group in itertools.groupby(words, lambda word: set(word) <= set("();<>|&")):
        if is_operator:
            continue
        call = list(itertools.dropwhile(lambda word: re.match(r"\w+=", word), group))
        if call[:2] == ["kubectl", "engine-ops"]:
            yield tuple(call[2:])
        elif call and (call[0] == "engine-ops" or call[0].endswith("/engine-ops")):
            yield tuple(call[1:])
        elif "--" in call and call[call.index("--") + 1 :][:1] == ["engine-ops"]:
            yield tuple(call[call.index("--") + 2 :])


COMMANDS = sorted(set(command_lines()), key=str)


def options_of(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names | {"--help", "-h"}


@pytest.mark.parametrize("call", COMMANDS, ids=str)
def test_commands_exist_and_take_these_options(call: CommandLine) -> None:
    command: click.Command = main
    words = [word.strip("[]") for word in call.words]
    while words and isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"no command {words[0]}"
        command, words = found, words[1:]
    if "--" in words:
        words = words[: words.index("--")]
    for word in words:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.partition("=")[0] in options_of(command), f"no option {word}"


@pytest.mark.parametrize(
    "text", ["engine-ops sovle -f x", "engine-ops run --wrokers 2", "kubectl engine-ops explain --naem x"]
)
def test_the_check_of_commands_can_fail(text: str) -> None:
    (words,) = engine_ops_calls(text)
    with pytest.raises(AssertionError):
        test_commands_exist_and_take_these_options(CommandLine("here", words))


# --- reasons


@pytest.mark.parametrize("reason", list(Reason))
def test_reasons_are_explained(reason: Reason) -> None:
    """In a row of a table of the user guide: the reason in its first cell, a sentence in its last."""
    rows = [
        line
        for page in GUIDES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{reason}` |")
    ]
    assert rows, f"{reason} is not explained"
    assert any(len(row.strip(" |").rpartition("|")[2].split()) >= 5 for row in rows)


def test_runbook_names_every_reason_that_an_operator_acts_on() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    no_action = {Reason.SOLVED, Reason.SUSPENDED}
    assert {reason for reason in Reason if f"`{reason}`" not in runbook} <= no_action
