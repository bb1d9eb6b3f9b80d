"""The reconcile loop of OptimizationRequests, without kopf: it is told of objects, decides, and acts.

Everything it knows about a request can be rebuilt from the object: an entry lives only while something is under way
(a solve, a retry, a timer, a write whose echo is awaited), so ten thousand finished requests cost no memory.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import logging
import time
from collections.abc import Container

from engine_ops.api import status as statuses
from engine_ops.api.faults import WaitingError
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Status
from engine_ops.controllers.agenda import Agenda
from engine_ops.controllers.announcing import announce
from engine_ops.controllers.asking import Asking
from engine_ops.controllers.cluster_data import ClusterData
from engine_ops.controllers.decision import Delete, Later, Nothing, Reject, Solve, Suspend, decide
from engine_ops.controllers.entries import Entry, Question
from engine_ops.controllers.final_status import FinalStatus
from engine_ops.controllers.measuring import UNMEASURED, Measured, count_answer, count_failure
from engine_ops.controllers.plugins import NO_PLUGINS, Plugins
from engine_ops.controllers.posed import Posed
from engine_ops.controllers.progress import ProgressReporter
from engine_ops.controllers.recording import History
from engine_ops.controllers.solving import Answered, progress_of, solution_of, task_for
from engine_ops.controllers.turns import Turn, Turns
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked
from engine_ops.kube.config_maps import ConfigMaps
from engine_ops.kube.errors import ApiError
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.requests import Requests
from engine_ops.kube.status_writer import StatusWriter, Written
from engine_ops.workers.messages import Failed, SolveTask
from engine_ops.workers.pool import WorkerPool, is_long_search

logger = logging.getLogger(__name__)

MAX_CRASHES = 5
"""After so many deaths of its worker in a row, without any answer, a request is Stalled."""
RETAINED_BYTES = 64 * 1024 * 1024
"""Data of queued requests beyond this is not kept but read again when its turn comes."""
SMALL_BYTES = 32 * 1024
"""Data below this is always kept."""
EMPTY_OBJECT = b"{}"
MAX_TYPE = 64
"""What stands in spec.type of a request whose spec is wrong is cut here."""
TURNS_PER_WORKER = 8
"""So many requests for each worker hold data or write status at once: a write takes longer than most solves."""


class RequestReconciler:
    """Brings OptimizationRequests to an answer.

    Parameters
    ----------
    requests, writer, config_maps, events
        The API server.
    cluster_data
        Live nodes and pods.
    history
        Of finished solves.
    pool, workers
        The worker processes, and how many they are.
    plugins
        Those that are asked before the built-in algorithms.
    measured
        Who counts what becomes of requests.
    """

    def __init__(
        self,
        *,
        requests: Requests,
        writer: StatusWriter,
        config_maps: ConfigMaps,
        cluster_data: ClusterData,
        events: EventRecorder,
        history: History,
        pool: WorkerPool,
        workers: int,
        plugins: Plugins = NO_PLUGINS,
        measured: Measured = UNMEASURED,
    ) -> None:
        self._requests = requests
        self._writer = writer
        self._config_maps = config_maps
        self._cluster_data = cluster_data
        self._events = events
        self._history = history
        self._final = FinalStatus(writer, requests, history)
        late = TURNS_PER_WORKER * workers
        self._asking = Asking(pool, plugins, late=late, can_wait=plugins is not NO_PLUGINS)
        self._agenda = Agenda(look_again=self._look_again, observe=self.observe, measured=measured)
        self._turns = Turns(TURNS_PER_WORKER * workers)
        self._retained_bytes = 0
        self._measured = measured

    @property
    def under_way(self) -> int:
        """How many requests are being solved, retried or timed."""
        return len(self._agenda)

    @property
    def queued(self) -> int:
        """How many requests wait for their turn."""
        return self._turns.waiting

    def gone(self, view: RequestView) -> None:
        """Take note that an object is gone, and of how it was last."""
        self._history.note(view, gone=True)
        self._agenda.stop(view.target.uid)

    def observe(self, view: RequestView) -> None:
        """Take note of an object as the watch shows it. Returns at once."""
        self._history.note(view)
        uid = view.target.uid
        entry = self._agenda.get(uid)
        if entry is not None and entry.target.generation == view.target.generation and not view.deleting:
            if entry.task is not None:
                if view.answers_its_spec:  # an unanswered one is never an echo, and its data need not be kept
                    entry.missed = view  # it may be the echo of a write whose response is still on its way
                return
            if entry.timer_is_retry:
                return
            if entry.answered_run is not None and not _shows(view, entry.answered_run):
                return  # an older event: our own answer is not in it yet
        self._agenda.stop(uid)
        self._act_or_retry(view)

    async def close(self) -> None:
        """Stop everything under way; what was not answered is answered after the next start."""
        await self._agenda.close()

    def wake(self, reasons: Container[str]) -> None:
        """Try again now what waits for one of these reasons: what was missing may be there."""
        self._agenda.wake(reasons)

    def _act_or_retry(self, view: RequestView, *, retries: int = 0, crashes: int = 0) -> None:
        """Act on an object; a defect of ours costs this request a retry, and no other anything."""
        try:
            self._act(view, retries=retries, crashes=crashes)
        except Exception:
            logger.exception("%s: the reconcile failed; trying again", view.target)
            self._measured.reconciled(0.0, failed=True)
            entry = Entry(view.target, retries=retries, crashes=crashes)
            self._agenda.add(entry)
            self._agenda.retry(entry)

    def _act(self, view: RequestView, *, retries: int = 0, crashes: int = 0) -> None:
        now = _now()
        decision = decide(view, now)
        entry = Entry(view.target, retries=retries, crashes=crashes)
        match decision:
            case Nothing():
                return
            case Later(at):
                self._agenda.look_later(entry, (at - now).total_seconds(), retry=False)
            case Delete():
                self._agenda.start(entry, functools.partial(self._delete, entry))
            case Reject(message):
                attempt = Attempt(view.status, view.target.generation, 1, now)
                status = statuses.stalled(attempt, Reason.INVALID_SPEC, message, now)
                asked = Asked(type=str(view.spec.get("type", ""))[:MAX_TYPE])
                entry.request_type = asked.type
                self._agenda.start(entry, functools.partial(self._reject, entry, attempt, status, asked))
            case Suspend():
                attempt = Attempt(view.status, view.target.generation, view.status.get("run", 0), now)
                status = statuses.suspended(attempt, now)
                self._agenda.start(entry, functools.partial(self._finish, entry, attempt, status, None))
            case Solve(run, spec):
                question = Question.of(spec, run, view.status)
                size = len(question.data or b"")
                if size > SMALL_BYTES and self._retained_bytes + size > RETAINED_BYTES:
                    self._agenda.start(
                        entry, functools.partial(self._solve_later, entry, is_long_search(spec.search_seconds))
                    )
                else:
                    self._agenda.start(entry, functools.partial(self._solve, entry, question))

    async def _look_again(self, entry: Entry) -> None:
        """Read the object anew and act on it as it is now."""
        body = await self._requests.get(entry.target)
        if not self._agenda.holds(entry):
            return  # it was observed anew in the meantime
        self._agenda.drop(entry)
        if body is not None:
            self._act_or_retry(RequestView.of(body), retries=entry.retries, crashes=entry.crashes)

    async def _solve_later(self, entry: Entry, long: bool) -> None:
        """Wait for a turn without holding the data, then read the object anew."""
        async with self._turns.take(long=long) as turn:
            body = await self._requests.get(entry.target)
            view = RequestView.of(body) if body is not None else None
            decision = decide(view, _now()) if view is not None else Nothing()
            if view is not None and view.target == entry.target and isinstance(decision, Solve):
                await self._solve_in_turn(entry, Question.of(decision.spec, decision.run, view.status), turn)
            else:
                self._agenda.drop(entry)  # the watch tells of what it is now

    async def _delete(self, entry: Entry) -> None:
        body = await self._requests.get(entry.target)
        if body is not None and isinstance(decide(RequestView.of(body), _now()), Delete):
            if not await self._history.settle(entry.target, body.get("status") or {}):
                logger.warning("%s: not deleted yet: its history is not written", entry.target)
                self._agenda.retry(entry)
                return
            await self._requests.delete(entry.target, body["metadata"]["resourceVersion"])

    async def _solve(self, entry: Entry, question: Question) -> None:
        retained = len(question.data or b"")
        self._retained_bytes += retained
        try:
            async with self._turns.take(long=is_long_search(question.spec.search_seconds)) as turn:
                await self._solve_in_turn(entry, question, turn)
        finally:
            self._retained_bytes -= retained

    async def _solve_in_turn(self, entry: Entry, question: Question, turn: Turn) -> None:
        attempt = Attempt(question.previous, entry.target.generation, question.run, _now())
        spec, data, cluster = question.spec, question.data, None
        entry.request_type = spec.type
        try:
            await self._final.make_room(entry.target, question.previous)
            if spec.cluster is not None:
                cluster = await self._cluster_data.read(entry.target.namespace, spec, data)
                if _answered_before(attempt, cluster.digest):
                    self._look_later(entry, spec)
                    return
                attempt = dataclasses.replace(attempt, input_digest=cluster.digest)
            elif spec.config_map_key_ref is not None:
                ref = spec.config_map_key_ref
                data = await self._config_maps.read_key(entry.target.namespace, ref.name, ref.key)
            task_id = str(entry.target)
            task = task_for(spec, data or EMPTY_OBJECT, task_id=task_id, cluster=cluster, asks_plugins=True)
        except WaitingError as error:
            await self._wait(entry, attempt, error.reason, error.message)
            return
        await self._run(entry, attempt, spec, task, turn)

    def _look_later(self, entry: Entry, spec: OptimizationRequestSpec) -> None:
        """Look again after the interval: the answer still holds, and its status says when it was made."""
        entry.retries = 0
        if self._agenda.holds(entry) and spec.interval_seconds is not None:
            self._agenda.look_later(entry, spec.interval_seconds, retry=False)

    async def _run(
        self, entry: Entry, attempt: Attempt, spec: OptimizationRequestSpec, task: SolveTask, turn: Turn
    ) -> None:
        async with ProgressReporter(self._writer, entry.target, attempt, turn) as progress:
            posed = Posed(entry.target, attempt, spec, task, turn, lambda solved: progress.update(progress_of(solved)))
            began = time.perf_counter()
            outcome = await self._asking.answer(posed)
            self._measured.solved(spec.type, time.perf_counter() - began)
        match outcome:
            case Answered():
                await self._answer(entry, attempt, Asked.of(spec, outcome.solved.request_fields), outcome)
            case Failed(reason=Reason.WORKER_DIED):
                await self._survive(entry, attempt, Asked.of(spec, outcome.request_fields), outcome.message)
            case Failed(reason=reason, message=message, waiting=True):
                await self._wait(entry, attempt, reason, message)
            case Failed(reason=reason, message=message):
                await self._stall(entry, attempt, Asked.of(spec, outcome.request_fields), reason, message)

    async def _survive(self, entry: Entry, attempt: Attempt, asked: Asked, message: str) -> None:
        """Try a request again that killed its worker, but not for ever."""
        entry.crashes += 1
        if entry.crashes >= MAX_CRASHES:
            message = f"{message}, {entry.crashes} times in a row; change the request to have it tried again"
            await self._stall(entry, attempt, asked, Reason.SOLVER_CRASHED, message)
        else:
            await self._wait(entry, attempt, Reason.WORKER_DIED, message)

    async def _answer(self, entry: Entry, attempt: Attempt, asked: Asked, answered: Answered) -> None:
        solved, result_ref = answered.solved, None
        if solved.compressed is not None:
            try:
                written = await self._config_maps.write_result(entry.target, attempt.run, solved.compressed)
            except ApiError as error:
                if error.retriable:
                    raise
                message = f"the result's ConfigMap was refused: {error.message}"
                await self._wait(entry, attempt, Reason.FORBIDDEN, message)
                return
            result_ref = {**written, "sizeBytes": solved.size_bytes}
        solution = solution_of(
            solved,
            result_ref=result_ref,
            cut_off=answered.cut_off,
            share=answered.share,
            fallback_reason=answered.fallback_reason,
        )
        status = statuses.answered(attempt, solution, _now())
        await self._finish(entry, attempt, status, asked, answered)
        if result_ref is None and attempt.previous.get("resultRef") is not None:
            await self._config_maps.delete_result(entry.target)

    async def _reject(self, entry: Entry, attempt: Attempt, status: Status, asked: Asked) -> None:
        try:
            await self._final.make_room(entry.target, attempt.previous)
        except WaitingError as error:
            await self._wait(entry, attempt, error.reason, error.message)
        else:
            await self._finish(entry, attempt, status, asked)

    async def _stall(self, entry: Entry, attempt: Attempt, asked: Asked, reason: str, message: str) -> None:
        await self._finish(entry, attempt, statuses.stalled(attempt, reason, message, _now()), asked)

    async def _finish(
        self, entry: Entry, attempt: Attempt, status: Status, asked: Asked | None, answered: Answered | None = None
    ) -> None:
        """Write the final status of this generation and run, and await its echo. What was asked goes to the history."""
        written = await self._final.write(entry.target, attempt, status, asked)
        if written is Written.REFUSED:
            message = "the API server refused the answer; the operator's log has its reason"
            status, answered = statuses.stalled(attempt, Reason.RESULT_TOO_LARGE, message, _now()), None
            written = await self._final.write(entry.target, attempt, status, asked)
            if written is Written.REFUSED:
                # No status fits into the object: an Event is the only place left where its owner may read why.
                self._events.record(entry.target, "Warning", Reason.RESULT_TOO_LARGE, message)
        if written is not Written.DONE:
            self._agenda.drop(entry)
            return
        announce(self._events, entry.target, attempt, status)
        if answered is not None:
            count_answer(self._measured, entry.request_type, answered)
        elif asked is not None:
            reason = (statuses.find(status, statuses.READY) or {}).get("reason", "")
            count_failure(self._measured, asked.type, reason, waiting=False)
        entry.retries, entry.crashes = 0, 0
        entry.answered_run = attempt.run

    async def _wait(self, entry: Entry, attempt: Attempt, reason: str, message: str) -> None:
        """Say what is awaited, once, and try again later."""
        entry.waits_for = reason
        count_failure(self._measured, entry.request_type, reason, waiting=True)
        ready = statuses.find(attempt.previous, statuses.READY) or {}
        status = statuses.waiting(attempt, reason, message, _now())
        said = statuses.find(status, statuses.READY) or {}
        known = all(ready.get(field) == said.get(field) for field in ("status", "reason", "message"))
        if not (known and ready.get("observedGeneration") == attempt.generation):
            if await self._writer.write(entry.target, status) is Written.DROPPED:
                self._agenda.drop(entry)
                return
            announce(self._events, entry.target, attempt, status)
        self._agenda.retry(entry)


def _answered_before(attempt: Attempt, input_digest: str) -> bool:
    """Whether a standing request has an answer already to just this: what matters in the cluster has not changed."""
    if attempt.run == 1 or attempt.previous.get("inputDigest") != input_digest:
        return False
    # A request that waited since then says so in its conditions, and must say that it waits no longer.
    return not statuses.is_true(attempt.previous, statuses.RECONCILING)


def _shows(view: RequestView, answered_run: int) -> bool:
    return view.answers_its_spec and view.status.get("run", 0) >= answered_run


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
