"""The Dockerfile without Docker: its steps run into empty roots, the last stage is measured and tried.

    sudo python benchmarks/image.py --python /path/to/prefix/bin/python3.13

A root holds this machine's /usr, read-only, in place of the base image's, and a copy of a Python in /usr/local; all
else is what the Dockerfile's own RUN and COPY steps put there. So the steps are tested, and the layers that they add
are measured; the base image and the Dockerfile's handling by a builder are not. Needs Linux, root (for mounts and
chroot) and the package index.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from tabulate import tabulate

from lib.dockerfile import Copy, DockerfileError, Run, Stage, read_dockerfile
from lib.image_layer import MB, Layer, bytes_in, leftovers, take_apart

ROOT = Path(__file__).resolve().parents[1]
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLICATION = "opt/engine-ops"
EXTRAS = ("ml",)
"""What requirements.lock has beside the dependencies: the shipped models are trained in the image."""
ALLOWED_MB = 20
FROM_THE_HOST = (
    "hosts", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "passwd", "group", "pip.conf", "resolv.conf", "ssl",
)  # fmt: skip
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
STEP_SECONDS = 900
TRIAL_SECONDS = 60
MOUNTS = """
mount --bind {root} {root}
mount --bind /usr {root}/usr
mount -o remount,bind,ro {root}/usr
mount --bind {root}.python {root}/usr/local
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
"""
READ_ONLY = """
mount -o remount,bind,ro {root}
mount -o remount,bind,ro {root}/usr/local
mount -t tmpfs -o size=64m,mode=1777 tmpfs {root}/tmp
"""


class Trial(NamedTuple):
    """A command in the last stage, and what it must do. The entry point is the image's, unless another one is named."""

    arguments: tuple[str, ...]
    exit_code: int
    says: str
    stdin: str = ""
    entry_point: tuple[str, ...] = ()
    shown: str = ""


TRAINS = """
import numpy
from sklearn.ensemble import HistGradientBoostingRegressor
inputs = numpy.arange(80.0).reshape(-1, 1)
model = HistGradientBoostingRegressor(loss="quantile", quantile=0.9, max_iter=5).fit(inputs, inputs.ravel())
print("predicts", model.predict(inputs).shape)
"""
DESCRIBES_THE_API = "from engine_ops.server.openapi_text import render; print(render())"


TRIALS = (
    Trial(("--version",), 0, "engine-ops, version"),
    Trial(("solve", "--help"), 0, "Usage: engine-ops solve"),
    Trial(
        ("solve", "-f", "-"),
        0,
        "web-shop",
        (ROOT / "manifests" / "samples" / "resource-node-capacity.yaml").read_text(encoding="utf-8"),
    ),
    Trial(
        ("-c", DESCRIBES_THE_API), 0, "/api/v1/optimize", entry_point=("python",), shown="the REST API's description"
    ),
    Trial(("-c", TRAINS), 0, "predicts (80,)", entry_point=("python",), shown="training with scikit-learn"),
    # The image's default command, without a cluster to connect to: one sentence, and no traceback.
    Trial((), 1, "error: no credentials"),
)


def main() -> int:
    """Run the steps, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python that stands for the base image's")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: mounts and chroot need root", file=sys.stderr)
        return 2
    stages = read_dockerfile(ROOT / "Dockerfile", base_path=BASE_PATH)
    base = Path(_ask(arguments.python, "import sys; print(sys.base_prefix)"))
    version = _ask(arguments.python, "import platform; print(platform.python_version())")
    print(f"base: Python {version} in place of {stages[-1].image}")
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        # The unprivileged user must get through it.
        Path(scratch).chmod(0o755)
        roots = {stage.name: Path(scratch, stage.name) for stage in stages}
        for stage in stages:
            _make_root(roots[stage.name], base)
            for step in stage.steps:
                _take(step, roots[stage.name], roots)
        failures = _report(roots, stages[-1])
    return 1 if failures else 0


def _ask(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _make_root(root: Path, base: Path) -> None:
    for name in ("dev", "etc", "opt", "proc", "root", "tmp", "usr", "var/tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for name in FROM_THE_HOST:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, root / "etc" / name)
    # A stage may change its Python, and a symbolic link back to the original would lead out of the root.
    shutil.copytree(base, f"{root}.python", symlinks=True, ignore=shutil.ignore_patterns("test", "__pycache__"))
    _inside(root, ["ldconfig"], {"PATH": BASE_PATH}, "/")


def _take(step: Run | Copy, root: Path, roots: Mapping[str, Path]) -> None:
    started = time.monotonic()
    if isinstance(step, Run):
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        (root / step.directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        done = _inside(root, ["sh", "-ec", step.command], {**passed_on, **step.environment}, step.directory)
        if done.returncode != 0:
            raise SystemExit(f"RUN {step.command}\n{done.stdout}{done.stderr}exit code {done.returncode}")
        print(f"{time.monotonic() - started:6.1f} s  RUN {step.command[:90]}")
        return
    for source in step.sources:
        if step.stage is None:
            _check_context(source)
        origin = ROOT / source if step.stage is None else roots[step.stage] / source.lstrip("/")
        target = root / step.destination.lstrip("/")
        if origin.is_dir():
            ignored = None if step.stage else shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(origin, target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, target)
    print(f"{time.monotonic() - started:6.1f} s  COPY {' '.join(step.sources)}")


def _check_context(source: str) -> None:
    """Refuse a source that .dockerignore leaves out: it would be missing in a real build."""
    listed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if f"!{source}" not in listed:
        raise DockerfileError(f".dockerignore leaves out {source}")


def _inside(
    root: Path, command: Sequence[str], environment: Mapping[str, str], directory: str
) -> subprocess.CompletedProcess[str]:
    script = f"set -e\n{MOUNTS.format(root=root)}cd {root}{directory}\n"
    script += f"exec chroot {root} env -C {directory} {shlex.join(command)}"
    return _unshared(script, environment, STEP_SECONDS)


def _as_user(root: Path, stage: Stage, trial: Trial) -> subprocess.CompletedProcess[str]:
    """Run the image's entry point as Kubernetes would: unprivileged, without capabilities, on a read-only root."""
    user, _, group = stage.user.partition(":")
    confined = f"setpriv --reuid {user} --regid {group} --clear-groups --bounding-set=-all --no-new-privs"
    command = shlex.join(_command(stage, trial))
    script = f"set -e\n{MOUNTS.format(root=root)}{READ_ONLY.format(root=root)}"
    script += f"exec chroot {root} {confined} env -C {stage.directory} {command}"
    return _unshared(script, stage.environment, TRIAL_SECONDS, trial.stdin)


def _unshared(
    script: str, environment: Mapping[str, str], seconds: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    # Mounts in a namespace of their own are gone with it, also after a kill.
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script],
        env={"PATH": BASE_PATH, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _command(stage: Stage, trial: Trial) -> list[str]:
    return [*(trial.entry_point or stage.entrypoint), *(trial.arguments or stage.command)]


def _report(roots: Mapping[str, Path], last: Stage) -> int:
    root = roots[last.name]
    packages = next((root / APPLICATION / "lib").glob("python*")) / "site-packages"
    layer = take_apart(root / APPLICATION, packages, ROOT / "pyproject.toml", EXTRAS)
    _print_sizes(layer, bytes_in(roots["build"] / "opt"))
    python = Path(f"{root}.python")
    unwanted = [*leftovers(root / APPLICATION), *python.glob("lib/python*/site-packages/pip*")]
    shown = ", ".join(str(path.relative_to(root)) for path in unwanted[:5])
    results = [["no build tools, caches or tests", not unwanted, shown]]
    more = layer.more_bytes / MB
    results.append([f"at most {ALLOWED_MB} MB beside the dependencies", more <= ALLOWED_MB, f"{more:.1f} MB"])
    for trial in TRIALS:
        started = time.monotonic()
        done = _as_user(root, last, trial)
        seconds = time.monotonic() - started
        said = done.stdout + done.stderr
        passed = done.returncode == trial.exit_code and trial.says in said and "Traceback" not in said
        note = f"exit code {done.returncode}, {seconds:.1f} s" + ("" if passed else f"\n{said[-2000:]}")
        results.append([trial.shown or shlex.join(_command(last, trial)), passed, note])
    rows = [[what, "yes" if passed else "NO", note] for what, passed, note in results]
    print(f"\nas user {last.user}, without capabilities, on a read-only root:")
    print(tabulate(rows, headers=("what", "as it should", "")))
    return sum(not passed for _, passed, _ in results)


def _print_sizes(layer: Layer, build_bytes: int) -> None:
    rows = [
        [
            part.name,
            part.own_bytes / MB,
            part.with_bytes / MB,
            shorten(" ".join(part.brings), 60, placeholder=" ...", break_on_hyphens=False),
        ]
        for part in layer.parts
    ]
    named = sum(part.with_bytes for part in layer.parts)
    rows += [
        ["all dependencies", None, named / MB, f"{layer.bytecode_bytes / MB:.1f} of them bytecode"],
        ["more: this project", None, layer.project_bytes / MB, "its bytecode included"],
        ["more: the environment's own", None, (layer.more_bytes - layer.project_bytes) / MB, ""],
        ["the last stage's layer", None, layer.total_bytes / MB, f"the build stage's /opt: {build_bytes / MB:.0f}"],
    ]
    print("\n" + tabulate(rows, headers=("dependency", "MB", "with what it needs", ""), floatfmt=".1f"))


if __name__ == "__main__":
    raise SystemExit(main())
