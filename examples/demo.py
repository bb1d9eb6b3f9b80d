"""The main job, from nothing: a local control plane, the resources, the operator, sample requests, their answers.

`make demo` runs it and takes everything down after; `make demo-up` leaves it running to play with.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from engine_ops.devcluster import DevCluster, DevClusterError

ROOT = Path(__file__).resolve().parents[1]
NAME = "demo"
READY = "watching optimizationrequests"
START_SECONDS = 30.0
OUTCOME_SECONDS = 60.0
JOBS = 4
"""As many as examples/demo-jobs.yaml has."""
ENGINE_OPS = Path(sysconfig.get_path("scripts")) / "engine-ops"


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--down", action="store_true", help="end what --keep left running")
    arguments = parser.parse_args()
    if arguments.down:
        take_down()
        return 0
    take_down(quiet=True)
    try:
        return run(keep=arguments.keep)
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(*, keep: bool) -> int:
    """Bring it up, show the answers, and take it down unless it is kept."""
    began = time.monotonic()
    say("a local control plane: etcd, kube-apiserver, controller manager, scheduler, six nodes in three zones")
    cluster = DevCluster.start(name=NAME, detached=keep, report=lambda line: print(line, flush=True))
    kept = False
    try:
        for zone in ("a", "b", "c"):
            labels = {"topology.kubernetes.io/zone": zone}
            cluster.add_nodes(2, cpu="4", memory="16Gi", prefix=f"node-{zone}", labels=labels)
        shell = Shell(cluster)
        say("what runs in it")
        shell.run("kubectl apply -f examples/demo-workloads.yaml")
        shell.run("kubectl rollout status deployment/web deployment/api --timeout=60s", quiet=True)
        say("the resources, and the operator with the rights of its own ServiceAccount")
        shell.run("kubectl apply --server-side -k manifests/base", quiet=True)
        with operator(cluster, keep=keep):
            say("sample requests, one of each type and form")
            shell.run("kubectl apply -f manifests/samples")
            shell.run("kubectl wait optreq web-shop api-right-size fewer-nodes --for=condition=Ready --timeout=30s")
            settle(cluster)
            say("the answers")
            shell.run("kubectl get optreq")
            say("the live cluster: how many of its nodes would do, and where would pods go")
            shell.run("kubectl engine-ops explain fewer-nodes")
            shell.run("kubectl engine-ops explain web-at-ten")
            shell.run("kubectl engine-ops explain pending-pods --pod default/nightly-training")
            say("why: items, tasks, containers")
            shell.run("kubectl engine-ops explain web-shop-sale")
            shell.run("kubectl engine-ops explain gpu-batch")
            shell.run("kubectl engine-ops explain report-run")
            shell.run("kubectl engine-ops explain api-right-size")
            say("what happened is remembered: Jobs run, and the history joins what became of them")
            shell.run("kubectl apply -f examples/demo-jobs.yaml")
            shell.run("kubectl wait optreq -l demo=jobs --for=condition=Ready --timeout=30s", quiet=True)
            wait_for_outcomes(cluster)
            shell.run("kubectl engine-ops history stats")
            shell.run("kubectl engine-ops history show")
            show_plugins(shell)
            kept = keep
        say(f"done in {time.monotonic() - began:.0f} s")
        if keep:
            where = f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.directory / 'bin'}:$PATH"
            print(f"\nIt is still running:\n  {where}\n  kubectl get optreq\n  make demo-down")
    finally:
        if not kept:
            cluster.stop()
    return 0


def show_plugins(shell: Shell) -> None:
    """Switch plugins on and off while requests come in."""
    ask = "kubectl patch optreq worker-replicas-tonight --type merge -p"
    wait = "kubectl wait optreq worker-replicas-tonight --timeout=30s"
    say("plugins: switched on by a patch while the operator runs, asked first, and switched off again")
    shell.run("kubectl apply -f examples/demo-plugins.yaml")
    shell.run("""kubectl patch optplug run-times --type merge -p '{"spec":{"enabled":true}}'""")
    shell.run("kubectl wait optplug run-times --for=condition=Trained --timeout=60s")
    shell.run(f"""{ask} '{{"spec":{{"data":{{"queueDepth":2000}}}}}}'""")
    shell.run(f"{wait} --for=jsonpath={{.status.solvedBy.plugin}}=run-times", quiet=True)
    shell.run("kubectl get optreq worker-replicas-tonight")
    shell.run("""kubectl patch optplug run-times --type merge -p '{"spec":{"enabled":false}}'""")
    shell.run(f"""{ask} '{{"spec":{{"data":{{"queueDepth":2100}}}}}}'""")
    shell.run(f"{wait} --for=jsonpath={{.status.solvedBy.algorithm}}=simple-predictor", quiet=True)
    shell.run("kubectl get optreq worker-replicas-tonight")
    say("a plugin that gives advice, and one that crashes each time: requests go on being answered")
    shell.run("""kubectl patch optplug idle-first crashes --type merge -p '{"spec":{"enabled":true}}'""")
    running = "--for=jsonpath={.status.conditions[0].reason}=Running"
    shell.run(f"kubectl wait optplug idle-first crashes {running} --timeout=60s")
    shell.run("kubectl apply -f examples/demo-plugin-requests.yaml")
    shell.run("kubectl wait optreq -l demo=plugins --for=condition=Ready --timeout=30s", quiet=True)
    why = "NAME:.metadata.name,SOLVEDBY:.status.solvedBy.name,WHY:.status.solvedBy.fallbackReason"
    shell.run(f"kubectl get optreq -l demo=plugins -o custom-columns={why}")
    shell.run("""kubectl patch optreq invoice-run --type merge -p '{"spec":{"searchSeconds":0}}'""")
    advised = "--for=jsonpath={.status.solvedBy.plugin}=idle-first"
    shell.run(f"kubectl wait optreq invoice-run {advised} --timeout=30s", quiet=True)
    shell.run("kubectl get optreq invoice-run")
    shell.run("kubectl get optplug")


class Shell:
    """Runs the commands that a user would type, and shows them.

    Parameters
    ----------
    cluster
        The one they reach.
    """

    def __init__(self, cluster: DevCluster) -> None:
        self._environment = cluster.environment()
        self._environment["PATH"] = os.pathsep.join([str(ENGINE_OPS.parent), self._environment["PATH"]])

    def run(self, command: str, *, quiet: bool = False) -> None:
        """Show a command and what it prints.

        Raises
        ------
        DevClusterError
            If it fails.
        """
        print(f"\n$ {command}", flush=True)
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, env=self._environment, text=True, capture_output=True, check=False
        )
        if not quiet or done.returncode:
            print((done.stdout + done.stderr).rstrip(), flush=True)
        if done.returncode:
            raise DevClusterError(f"`{command}` failed with {done.returncode}")


@contextlib.contextmanager
def operator(cluster: DevCluster, *, keep: bool) -> Iterator[None]:
    """Run the operator beside the block, and after it if it is kept."""
    kubeconfig = cluster.service_account_kubeconfig("engine-ops-system", "engine-ops")
    log = cluster.directory / "operator.log"
    who_may_see = "--cluster-data-namespaces=kubernetes.io/metadata.name=default"
    command = [str(ENGINE_OPS), "run", "--kubeconfig", str(kubeconfig), "--probes", "none", who_may_see]
    plugins = str(ROOT / "examples")  # where demo_plugins is; in a cluster they come with the image
    print(f"\n$ PYTHONPATH=examples engine-ops run {who_may_see} &", flush=True)
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": plugins}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    (cluster.directory / "operator.pid").write_text(str(process.pid))
    finished = False
    try:
        wait_for(log, process)
        print(log.read_text().rstrip(), flush=True)
        yield
        finished = True
    finally:
        if not (keep and finished):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()


def wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the operator serves."""
    deadline = time.monotonic() + START_SECONDS
    while READY not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DevClusterError(f"the operator does not serve:\n{log.read_text()}")
        time.sleep(0.05)


def settle(cluster: DevCluster) -> None:
    """Wait until every request has a condition."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        reasons = cluster.kubectl(
            "get", "optreq", "-o", "jsonpath={range .items[*]}{.status.conditions[0].reason},{end}"
        )
        if all(reason not in ("", "Solving") for reason in reasons.stdout.rstrip(",").split(",")):
            return
        time.sleep(0.2)


def wait_for_outcomes(cluster: DevCluster) -> None:
    """Wait until the Jobs have ended, and the history has their outcomes."""
    environment = cluster.environment()
    command = [str(ENGINE_OPS), "history", "export", "--format", "jsonl"]
    deadline = time.monotonic() + OUTCOME_SECONDS
    while time.monotonic() < deadline:
        done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
        if done.stdout.count('"of":"workload"') >= JOBS:
            return
        time.sleep(0.5)
    raise DevClusterError(f"the outcomes of the Jobs are not in the history: {done.stderr}")


def take_down(*, quiet: bool = False) -> None:
    """End a demo that was left running."""
    cluster = DevCluster.attach(NAME)
    if cluster is None:
        if not quiet:
            print("nothing is running")
        return
    with contextlib.suppress(OSError, ValueError):
        pid = int((cluster.directory / "operator.pid").read_text())
        if "engine-ops" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGTERM)
    cluster.stop()
    print("the demo that was left running is down")


def say(line: str) -> None:
    """Print a heading."""
    print(f"\n== {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
