"""Tests that every plugin should pass, for authors to inherit."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from engine_ops.api.optimizerplugin import RESERVED_NAMES
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.plugin_interface import MLPluginInterface

NOON_MS: Final = 1_767_614_400_000
"""2026-01-05, a Monday, 12:00 UTC: when the requests of these tests are made."""

_HOUR_MS: Final = 3_600_000
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_INFO_KEYS: Final = {"plugin", "model", "is_initialized"}
_METADATA_KEYS: Final = {"model_id", "is_trained", "training_metadata"}


def sample_history(count: int, request_types: Sequence[str] = ("ml-driven",), seed: int = 0) -> list[WorkloadDataPoint]:
    """Return made-up points of three workloads, the last of them an hour before `NOON_MS`.

    Duration and memory grow with the request's ``workload_size``, each fails with a probability of 0.1, and all
    outcomes are known at `NOON_MS`. The same arguments give the same points.
    """
    chance = random.Random(seed)  # noqa: S311 -- made-up data, no secret
    points = []
    for index in range(count):
        size = chance.choice((50, 100, 200, 400))
        timestamp = NOON_MS - (count - index) * _HOUR_MS
        duration_ms = size * 100 * chance.lognormvariate(0, 0.2)
        name = f"job-{index % 3}"
        points.append(
            WorkloadDataPoint(
                timestamp,
                request_types[index % len(request_types)],
                {"cpu": round(1 + size / 100, 3), "memory": float(size * 2**20)},
                duration_ms,
                chance.random() >= 0.1,
                {
                    "workload": {"namespace": "shop", "kind": "Job", "name": name},
                    "request": {"workload_size": size},
                    "outcome": {"of": "workload", "state": "closed", "closedAt": timestamp + duration_ms},
                },
            )
        )
    return points


def check_answer(answer: Any) -> None:
    """Check the form of what `MLPluginInterface.optimize` returned.

    Raises
    ------
    AssertionError
        If it is none of {``success`` true, ``result``, optionally ``confidence`` 0 to 1 and ``model_id``} and
        {``success`` false, ``error``}, or holds anything but JSON values, numpy's numbers and arrays of them; the
        message says where.
    """
    _check(isinstance(answer, dict), f"optimize must return a dict, not {type(answer).__name__}")
    answer = _check_json(answer, "the answer")
    _check(isinstance(answer.get("success"), bool), "answer['success'] must be True or False")
    if not answer["success"]:
        error = answer.get("error")
        _check(isinstance(error, str) and error != "", "answer['error'] must say why success is False")
        return
    _check(answer.get("result") is not None, "answer['result'] must be there where success is True")
    confidence = answer.get("confidence")
    is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    _check(
        confidence is None or (is_number and 0 <= confidence <= 1),
        f"answer['confidence'] must be a number from 0 to 1, or None, not {confidence!r}",
    )
    model_id = answer.get("model_id")
    _check(model_id is None or isinstance(model_id, str), "answer['model_id'] must be a string")


def check_state(state: Any, path: str = "state") -> None:
    """Check that what `BaseMLModel.save` returned can be kept: JSON values and arrays of numbers.

    Raises
    ------
    AssertionError
        If there is anything else in it; the message says where.
    """
    if isinstance(state, Mapping):
        for key, value in state.items():
            _check(isinstance(key, str), f"{path}: keys must be strings, not {key!r}")
            check_state(value, f"{path}[{key!r}]")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            check_state(value, f"{path}[{index}]")
    elif type(state).__module__ == "numpy" and hasattr(state, "dtype"):
        _check(state.dtype.kind in "biuf", f"{path}: an array of {state.dtype} is no array of numbers")
    else:
        _check_json(state, path)


class PluginContract:
    """What the engine counts on in every plugin, as tests for pytest to collect.

    Inherit from it in a class whose name begins with ``Test``, and say how a plugin is made:

    >>> class TestMyPlugin(PluginContract):
    ...     def make_plugin(self):
    ...         return MyPlugin()

    Attributes
    ----------
    config : mapping
        What `MLPluginInterface.init` is given.
    """

    config: ClassVar[Mapping[str, Any]] = {}

    def make_plugin(self) -> MLPluginInterface:
        """Return a new plugin, not initialised and not trained."""
        raise NotImplementedError("make_plugin must return a new plugin")

    def make_requests(self) -> list[dict[str, Any]]:
        """Return requests that the plugin can answer; by default a small one of each type that it supports."""
        return [{"type": kind, "constraints": {}, "timestamp": NOON_MS, "workload_size": 100} for kind in self._types()]

    def make_history(self) -> list[WorkloadDataPoint]:
        """Return enough to train the plugin on; by default `sample_history`, 40 points of its types."""
        return sample_history(40, self._types())

    def test_metadata(self) -> None:
        """Name, version and description are there, and the name can be that of a resource."""
        metadata: Any = self.make_plugin().metadata
        _check(
            isinstance(metadata.name, str) and len(metadata.name) <= 253 and _NAME.fullmatch(metadata.name) is not None,
            f"metadata.name must be lower-case letters, digits, '-' and '.', is {metadata.name!r}",
        )
        _check(metadata.name not in RESERVED_NAMES, f"metadata.name must not be {metadata.name!r}: it is reserved")
        for field in ("version", "description"):
            value = getattr(metadata, field)
            _check(isinstance(value, str) and value != "", f"metadata.{field} must not be empty")
        types = metadata.supported_types
        # A string is a sequence too: of letters.
        _check(types is None or not isinstance(types, str), "metadata.supported_types must be a list of strings")

    def test_info(self) -> None:
        """`get_info` is JSON and has its keys, before `init` and after training."""
        plugin = self.make_plugin()
        self._check_info(plugin, is_initialized=False)
        plugin = self._trained()
        self._check_info(plugin, is_initialized=True)

    def test_starting_and_stopping(self) -> None:
        """`init` and `shutdown` can be called again, in any order."""
        plugin = self.make_plugin()
        plugin.shutdown()
        for _ in range(2):
            plugin.init(dict(self.config))
            _check(plugin.is_initialized, "is_initialized must be True after init")
        for _ in range(2):
            plugin.shutdown()
            _check(not plugin.is_initialized, "is_initialized must be False after shutdown")
        plugin.init(dict(self.config))
        _check(plugin.is_initialized, "is_initialized must be True after init")

    def test_nothing_is_done_before_init(self) -> None:
        """Training and predicting raise RuntimeError."""
        for action in ("train_model", "predict"):
            plugin = self.make_plugin()
            argument: Any = self.make_history() if action == "train_model" else self.make_requests()[0]
            try:
                getattr(plugin, action)(argument)
            except RuntimeError:
                continue
            raise AssertionError(f"{action} before init must raise RuntimeError")

    def test_config_schema(self) -> None:
        """It can be shown as JSON schema, and takes the configuration of these tests."""
        plugin = self.make_plugin()
        if plugin.config_schema is not None:
            _check_json(plugin.config_schema.model_json_schema(), "config_schema")
            plugin.config_schema.model_validate(dict(self.config))

    def test_types(self) -> None:
        """`can_handle` is true of the types that it says it supports."""
        plugin = self.make_plugin()
        plugin.init(dict(self.config))
        for kind in plugin.metadata.supported_types or ():
            _check(plugin.can_handle(kind) is True, f"can_handle({kind!r}) must be True: metadata say so")
        _check(isinstance(plugin.can_handle("no-such-type"), bool), "can_handle must return True or False")

    def test_without_history_it_answers_or_says_no(self) -> None:
        """Not trained and without history, `optimize` returns an answer or the reason why not."""
        nothing: list[WorkloadDataPoint] = []
        for history in (None, nothing):
            plugin = self.make_plugin()
            plugin.init(dict(self.config))
            for request in self.make_requests():
                check_answer(plugin.optimize(request, history))

    def test_too_little_to_learn_from(self) -> None:
        """One point is learned from or refused with ValueError; afterwards the plugin answers or says no."""
        plugin = self.make_plugin()
        plugin.init(dict(self.config))
        try:
            plugin.train_model(self.make_history()[:1])
        except ValueError:
            _check(not plugin.model.is_trained, "is_trained must stay False where training failed")
        check_answer(plugin.optimize(self.make_requests()[0], self.make_history()[:1]))

    def test_trained_it_answers(self) -> None:
        """After training, every request has an answer."""
        plugin = self._trained()
        for request in self.make_requests():
            answer = plugin.optimize(request, self.make_history())
            check_answer(answer)
            _check(answer["success"], f"a trained plugin must answer {request!r}, said: {answer.get('error')}")

    def test_what_it_is_given_stays_as_it_is(self) -> None:
        """Neither training nor answering changes its arguments."""
        plugin = self.make_plugin()
        plugin.init(dict(self.config))
        history, requests = self.make_history(), self.make_requests()
        history_before, requests_before = copy.deepcopy(history), copy.deepcopy(requests)
        plugin.train_model(history)
        for request in requests:
            plugin.optimize(request, history)
        _check(history == history_before, "the plugin changes the history that it is given")
        _check(requests == requests_before, "the plugin changes the request that it is given")

    def test_plugins_share_nothing(self) -> None:
        """Training one leaves another as it is: a candidate is trained beside the one that serves."""
        other = self.make_plugin()
        self._trained()
        _check(not other.model.is_trained, "training one plugin must not train another: they share a model")

    def test_a_saved_model_answers_the_same(self) -> None:
        """Where `save` gives a state, it is JSON and arrays, and a new model that loads it answers alike."""
        plugin = self._trained()
        state = plugin.model.save()
        if state is None:
            return
        check_state(state)
        other = self.make_plugin()
        other.init(dict(self.config))
        other.model.load(state)
        _check(other.model.is_trained, "is_trained must be True after load")
        for request in self.make_requests():
            expected, found = (each.optimize(request, self.make_history()) for each in (plugin, other))
            _check(found == expected, f"after load the answer is {found!r}, was {expected!r}")

    def _types(self) -> Sequence[str]:
        return self.make_plugin().metadata.supported_types or ("ml-driven",)

    def _trained(self) -> MLPluginInterface:
        plugin = self.make_plugin()
        plugin.init(dict(self.config))
        plugin.train_model(self.make_history())
        _check(plugin.model.is_trained, "train must set is_trained")
        return plugin

    def _check_info(self, plugin: MLPluginInterface, *, is_initialized: bool) -> None:
        info = plugin.get_info()
        _check_json(info, "get_info()")
        _check(set(info) >= _INFO_KEYS, f"get_info() must have the keys {sorted(_INFO_KEYS)}")
        _check(set(info["model"]) >= _METADATA_KEYS, f"model.get_metadata() must have {sorted(_METADATA_KEYS)}")
        _check(info["is_initialized"] is is_initialized, f"is_initialized must be {is_initialized}")


def _check(condition: bool, message: str) -> None:
    # Not `assert`: pytest rewrites those of test files only, and -O drops them.
    if not condition:
        raise AssertionError(message)


def _check_json(value: Any, place: str) -> Any:
    """Return the value as JSON reads it back."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_plain))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{place} is no JSON: {error}") from None


def _plain(value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
