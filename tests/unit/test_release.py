"""The workflows as files, and the check that a release begins with. They run at GitHub only."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
SCRIPT = ROOT / ".github" / "check_release.py"
USES = re.compile(r"^\s*(?:- )?uses: *(?P<action>\S+)(?P<rest>.*)$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
VERSION_COMMENT = re.compile(r" # v\d+\.\d+\.\d+")
MAY_WRITE = {"check": set(), "image": {"packages", "id-token", "attestations"}, "release": {"contents", "id-token"}}


def load(path: Path) -> dict[str, Any]:
    read: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in read.items()}  # YAML 1.1: on is true


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def job_text(name: str) -> str:
    return yaml.safe_dump(load(RELEASE)["jobs"][name])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_says_its_version(path: Path) -> None:
    found = list(USES.finditer(path.read_text(encoding="utf-8")))
    assert len(found) == sum("uses" in step for step in steps_of(load(path))) > 0
    for match in found:
        assert PINNED.fullmatch(match["action"]), match["action"]
        assert VERSION_COMMENT.fullmatch(match["rest"]), match.group()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_starts_with_rights_or_leaves_its_token_behind(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    checkouts = [step for step in steps_of(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_script_has_an_expression_in_its_text(path: Path) -> None:
    """What GitHub puts in there before the shell reads it could be anything; variables of the environment cannot."""
    assert not [step["run"] for step in steps_of(load(path)) if "${{" in step.get("run", "")]


def test_each_job_of_a_release_may_write_what_it_must_and_no_more() -> None:
    jobs = load(RELEASE)["jobs"]
    assert set(jobs) == set(MAY_WRITE)
    for name, job in jobs.items():
        assert set(job["permissions"].values()) <= {"read", "write"}
        assert {right for right, how in job["permissions"].items() if how == "write"} == MAY_WRITE[name]


def test_only_a_tag_begins_a_release_and_nothing_is_pushed_before_the_checks() -> None:
    workflow = load(RELEASE)
    assert list(workflow["on"]) == ["push"]
    assert list(workflow["on"]["push"]) == ["tags"]
    jobs = workflow["jobs"]
    assert (jobs["image"]["needs"], jobs["release"]["needs"]) == ("check", "image")
    scripts = [step.get("run", "") for step in jobs["check"]["steps"]]
    assert any("check_release.py" in script for script in scripts)
    assert ".ci/run" in scripts


def test_the_image_has_an_sbom_and_provenance_and_is_signed_by_digest() -> None:
    (build,) = (step for step in steps_of(load(RELEASE)) if step.get("id") == "build")
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    text = job_text("image")
    assert 'cosign sign --yes "$IMAGE@$DIGEST"' in text
    assert "actions/attest-build-provenance@" in text
    assert "--key" not in text  # keyless


@pytest.mark.parametrize("asset", ["install.yaml", "crds.yaml", "manifests.tar.gz", "image.spdx.json", "SHA256SUMS"])
def test_a_release_brings_what_is_installed_with(asset: str) -> None:
    assert f"release/{asset}" in job_text("release") or asset in job_text("release").split()


@pytest.mark.parametrize(
    "step", [step for step in steps_of(load(RELEASE)) if "run" in step], ids=lambda step: step["name"]
)
def test_scripts_are_shell(step: dict[str, Any]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    checked = subprocess.run([bash, "-n"], input=step["run"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


# The check that a release begins with.


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repository(root: Path, version: str, *, tag: str | None = None, changelog: str | None = None) -> Path:
    (root / "manifests" / "base").mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
    base = {"images": [{"name": "engine-ops", "newTag": version if tag is None else tag}]}
    (root / "manifests" / "base" / "kustomization.yaml").write_text(yaml.safe_dump(base))
    (root / "CHANGELOG.md").write_text(changelog or f"# Changelog\n\n## [{version}] - 2026-01-02\n\n- It works.\n")
    return root


def test_a_repository_that_says_one_version_gives_its_notes(check: ModuleType, tmp_path: Path) -> None:
    changelog = (
        "## [Unreleased]\n- later\n\n## [1.2.3] - 2026-01-02\n\n### Added\n- this\n\n## [1.2.2] - 2025-01-01\n- old\n"
    )
    root = repository(tmp_path, "1.2.3", changelog=changelog)
    assert check.notes_of("v1.2.3", root) == "### Added\n- this"
    assert check.notes_of("v1.2.3rc1", repository(tmp_path, "1.2.3rc1")) == "- It works."


@pytest.mark.parametrize(
    ("version", "others", "names"),
    [
        ("1.2.4", {}, ["pyproject.toml", "newTag", "CHANGELOG.md"]),
        ("1.2.3", {"tag": "1.2.2"}, ["manifests/base/kustomization.yaml: newTag is 1.2.2, not 1.2.3"]),
        ("1.2.3", {"changelog": "## [Unreleased]\n- x\n"}, ["CHANGELOG.md: no section"]),
        ("1.2.3", {"changelog": "## [1.2.3]\n- no date\n"}, ["CHANGELOG.md: no section"]),
        (
            "1.2.3",
            {"changelog": "## [1.2.3] - 2026-01-02\n\n## [1.2.2] - 2025-01-01\n- x\n"},
            ["CHANGELOG.md: no section"],
        ),
    ],
)
def test_each_difference_is_named(
    check: ModuleType, tmp_path: Path, version: str, others: dict[str, str], names: list[str]
) -> None:
    with pytest.raises(check.ReleaseError) as caught:
        check.notes_of("v1.2.3", repository(tmp_path, version, **others))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(names)
    assert all(name in line for name, line in zip(names, lines, strict=True))


@given(tag=st.text(max_size=12) | st.from_regex(r"v?\d+\.\d+(\.\d+)?(-?[a-z]+\d?)?", fullmatch=True))
def test_only_a_tag_of_the_form_is_looked_at(check: ModuleType, tag: str) -> None:
    """Whatever else a tag is, no file is read: there is none."""
    is_one = re.fullmatch(r"v[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?", tag) is not None
    expected = FileNotFoundError if is_one else check.ReleaseError
    with pytest.raises(expected):
        check.notes_of(tag, ROOT / "nowhere")


def test_this_repository_says_one_version_but_for_the_changelog() -> None:
    import engine_ops

    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"v{engine_ops.__version__}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        assert done.stderr.startswith("error: CHANGELOG.md: no section"), done.stderr
        assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        assert len(done.stderr.splitlines()) == 1
