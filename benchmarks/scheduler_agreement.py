"""Random small clusters: kube-scheduler accepts what we answer, and finds a node only where we do.

    python benchmarks/scheduler_agreement.py [--clusters 2000] [--seed 1] [--mode placement|repacking|both]
        [--nodes 8] [--pods 40] [--keep DIRECTORY]

Each cluster goes as a dump through the decoder and the solver; the placements are repeated in our order through
kube-scheduler's own filters (`lib.scheduler_oracle`). For placement it counts

    refused     placements on a node that the scheduler's filters reject at that moment: must be 0
    missed      pods that we leave out at their turn though it finds a node: must be 0
    differing   turns at which the set of feasible nodes is not the same, chosen or not: must be 0
    stranded    pods left out for which it finds a node when all others are placed, as after later arrivals: must be 0
    requests    pods, running or pending, of which we count other amounts than it does: must be 0

and for repacking

    unlawful    pods that have moved, and that it would not put there with all others where we leave them: must be 0
    lost        pods that are in the wrong number of places: must be 0

Pods that the answer names as not modelled are left out of the comparison. Disagreements are printed; with --keep their
clusters are written as dumps for `engine-ops solve`, with notes, and for each kind of disagreement the smallest cluster
that still has it (`lib.shrinking`), which takes seconds each. Exits 1 on any disagreement. Go is needed once.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.agreement import Disagreement, Tally, compare_placement, compare_repacking
from lib.random_clusters import Cluster, make_cluster
from lib.scheduler_oracle import SchedulerOracle, build_oracle
from lib.shrinking import shrink

Comparison = Callable[[Cluster, SchedulerOracle, Tally], list[Disagreement]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first one; the next have the next numbers")
    parser.add_argument("--mode", choices=("placement", "repacking", "both"), default="both")
    parser.add_argument("--nodes", type=int, default=8, help="about how many a cluster has")
    parser.add_argument("--pods", type=int, default=40, help="about how many a cluster has, half of them pending")
    parser.add_argument("--search", type=int, default=0, metavar="STEPS", help="improve each answer by so many steps")
    parser.add_argument("--keep", type=Path, help="a directory for the clusters with disagreements")
    parser.add_argument("--show", type=int, default=20, help="print so many disagreements at most")
    arguments = parser.parse_args()

    comparisons = [
        functools.partial(compare, steps=arguments.search)
        for mode, compare in (("placement", compare_placement), ("repacking", compare_repacking))
        if arguments.mode in {mode, "both"}
    ]
    tally = Tally()
    found: list[Disagreement] = []
    started = time.monotonic()
    with SchedulerOracle(build_oracle(print)) as oracle:
        for seed in range(arguments.seed, arguments.seed + arguments.clusters):
            cluster = make_cluster(seed, nodes=arguments.nodes, pods=arguments.pods)
            disagreements = compare_all(comparisons, cluster, oracle, tally)
            for disagreement in disagreements:
                if len(found) < arguments.show:
                    print(f"seed {seed}: {disagreement}")
                found.append(disagreement)
            if disagreements and arguments.keep is not None:
                keep(arguments.keep, seed, cluster, disagreements)
                again = functools.partial(compare_all, comparisons, oracle=oracle, tally=Tally())
                for kind in sorted({disagreement.kind for disagreement in disagreements}):
                    keep_smallest(arguments.keep / f"cluster-{seed}-{kind}", cluster, kind, again)
    print_table(tally, found, arguments.clusters, time.monotonic() - started)
    return 1 if found else 0


def compare_all(
    comparisons: Sequence[Comparison], cluster: Cluster, oracle: SchedulerOracle, tally: Tally
) -> list[Disagreement]:
    return [found for compare in comparisons for found in compare(cluster, oracle, tally)]


def keep(directory: Path, seed: int, cluster: Cluster, disagreements: list[Disagreement]) -> None:
    """Write what is needed to see the disagreements again."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"cluster-{seed}.json").write_text(cluster.to_json(), encoding="utf-8")
    notes = "".join(f"{disagreement}\n" for disagreement in disagreements)
    (directory / f"cluster-{seed}.txt").write_text(notes, encoding="utf-8")


def keep_smallest(stem: Path, cluster: Cluster, kind: str, compare: Callable[[Cluster], list[Disagreement]]) -> None:
    """Write the smallest cluster that still has a disagreement of a kind."""

    def kinds(smaller: Cluster) -> set[str]:
        return {disagreement.kind for disagreement in compare(smaller)}

    # What was only left out too early must not turn into what is never placed.
    others = {"missed", "refused", "unlawful", "requests"} - kinds(cluster)
    smallest = shrink(cluster, lambda smaller: kind in (now := kinds(smaller)) and not now & others)
    stem.with_suffix(".json").write_text(smallest.to_json(), encoding="utf-8")
    notes = "".join(f"{disagreement}\n" for disagreement in compare(smallest))
    stem.with_suffix(".txt").write_text(notes, encoding="utf-8")


def print_table(tally: Tally, found: list[Disagreement], clusters: int, seconds: float) -> None:
    kinds = Counter(disagreement.kind for disagreement in found)
    print(f"\n{clusters:,} clusters in {seconds:.0f} s")
    for name, count in tally.counts.items():
        print(f"  {name:<44} {count:>10,}")
    if tally.turns:
        print("  what closed a node to a pod, first filter first, and the share of turns at which it closed some:")
        for plugin, count in tally.closed.most_common():
            share = tally.bit[plugin] / tally.turns
            print(f"    {plugin:<20} {count:>10,} nodes {share:>6.1%} of turns")
    for kind in ("refused", "missed", "differing", "stranded", "requests", "unlawful", "lost"):
        print(f"  {kind:<44} {kinds[kind]:>10,}")


if __name__ == "__main__":
    sys.exit(main())
