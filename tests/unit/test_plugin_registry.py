"""The registry: which plugins there are, how each is used, which of them a request goes to."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from plugin_stand_ins import Algorithm, Heard, Model, ModelPlugin, names, request

import engine_ops
from engine_ops import PluginConfig
from engine_ops.api.faults import InvalidDataError
from engine_ops.api.optimizerplugin import PluginLimits
from engine_ops.plugins import BaseOptimizationPlugin, PluginError, PluginRegistry


@pytest.fixture
def registry() -> PluginRegistry:
    return PluginRegistry()


@pytest.fixture
def heard(registry: PluginRegistry) -> Heard:
    heard = Heard()
    registry.subscribe(heard)
    return heard


def test_the_shared_registry_is_one_and_begins_empty() -> None:
    from engine_ops.plugins import plugin_registry

    assert engine_ops.plugin_registry is plugin_registry
    assert isinstance(plugin_registry, PluginRegistry)
    assert plugin_registry.list() == []


def test_register_initialises_with_the_settings(registry: PluginRegistry, heard: Heard) -> None:
    plugin = ModelPlugin("guide")
    entry = registry.register(plugin, PluginConfig(priority=10, config={"scale": 2}))
    assert plugin.is_initialized
    assert plugin.config == {"scale": 2}
    assert registry.get("guide") == entry
    assert (entry.plugin, entry.config.priority, entry.metadata.version) == (plugin, 10, "1.0.0")
    assert heard.words() == ["registered guide"]
    assert heard[0].config == entry.config


def test_settings_that_a_plugin_changes_do_not_change_in_the_registry(registry: PluginRegistry) -> None:
    given: dict[str, Any] = {"deep": {"list": [1]}}
    plugin = ModelPlugin()
    entry = registry.register(plugin, PluginConfig(config=given))
    plugin.config["deep"]["list"].append(2)
    given["deep"]["list"].append(3)
    assert entry.config.config == {"deep": {"list": [1]}}


def test_what_the_registry_shows_is_what_the_plugin_works_with(registry: PluginRegistry) -> None:
    plugin = Algorithm()
    plugin.init({"scale": 3.0})
    registry.register(plugin)
    assert plugin.config == {"scale": 1.0}
    registry.unregister("algorithm")
    plugin.is_initialized = True  # as after a shutdown of its own that forgets it
    registry.register(plugin)
    assert plugin.calls == ["init", "init", "shutdown", "init"]


@pytest.mark.parametrize("given", [object(), Model("m"), ModelPlugin, None])
def test_what_is_no_plugin_is_refused(registry: PluginRegistry, given: Any) -> None:
    with pytest.raises(TypeError, match="neither an MLPluginInterface nor a BaseOptimizationPlugin"):
        registry.register(given)


def test_a_plugin_without_metadata_is_refused(registry: PluginRegistry) -> None:
    class Nameless(BaseOptimizationPlugin):
        def optimize(self, request: Any, historical_data: Any = None) -> Any:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"Nameless.metadata must be a PluginMetadata, not NoneType"):
        registry.register(Nameless())


@pytest.mark.parametrize("name", ["", "none", "workload-data"])
def test_names_that_are_refused(registry: PluginRegistry, name: str) -> None:
    with pytest.raises(ValueError, match="a plugin"):
        registry.register(ModelPlugin(name))
    assert registry.list() == []


def test_a_name_is_taken_once(registry: PluginRegistry) -> None:
    first = registry.register(ModelPlugin("a"))
    with pytest.raises(ValueError, match="plugin 'a' is registered already"):
        registry.register(ModelPlugin("a"))
    assert registry.list() == [first]
    registry.register(ModelPlugin("a"), name="b")
    assert [entry.name for entry in registry.list()] == ["a", "b"]


@pytest.mark.parametrize("failure", [ValueError("no such file"), SystemExit(1)])
def test_a_plugin_whose_init_fails_is_not_registered(
    registry: PluginRegistry, heard: Heard, failure: BaseException
) -> None:
    plugin = Algorithm()
    plugin.failing["init"] = failure
    with pytest.raises(PluginError, match=f"init failed: {type(failure).__name__}: {failure}") as raised:
        registry.register(plugin)
    assert raised.value.__cause__ is failure
    assert registry.get("algorithm") is None
    assert heard.words() == ["error algorithm"]
    assert heard[0].message == str(raised.value)
    plugin.failing.clear()
    registry.register(plugin)
    assert names(registry) == ["algorithm"]


def test_a_schema_rejects_settings_before_init_sees_them(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    with pytest.raises(InvalidDataError) as raised:
        registry.register(plugin, PluginConfig(config={"scale": "wide", "depth": 1}))
    assert {fault.path for fault in raised.value.faults} == {"config.scale", "config.depth"}
    assert plugin.calls == []
    assert registry.list() == []
    assert heard.words() == ["error algorithm"]


def test_unregister_shuts_down(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    registry.register(plugin)
    assert registry.unregister("algorithm") is plugin
    assert not plugin.is_initialized
    assert registry.get("algorithm") is None
    assert names(registry) == []
    assert heard.words() == ["registered algorithm", "unregistered algorithm"]


def test_a_failing_shutdown_keeps_no_plugin(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    plugin.failing["shutdown"] = RuntimeError("stuck")
    registry.register(plugin)
    registry.unregister("algorithm")
    assert registry.list() == []
    assert heard.words()[1:] == ["error algorithm", "unregistered algorithm"]
    assert heard[1].message == "shutdown failed: RuntimeError: stuck"


def test_clear_unregisters_all(registry: PluginRegistry) -> None:
    plugins = [Algorithm(name) for name in ("a", "b")]
    for plugin in plugins:
        registry.register(plugin, PluginConfig(enabled=False))
    registry.clear()
    assert registry.list() == []
    assert [plugin.calls for plugin in plugins] == [["init", "shutdown"]] * 2


@pytest.mark.parametrize("operation", ["unregister", "enable", "disable"])
def test_unknown_names(registry: PluginRegistry, operation: str) -> None:
    with pytest.raises(LookupError, match="no plugin 'x' is registered"):
        getattr(registry, operation)("x")
    with pytest.raises(LookupError, match="no plugin 'x' is registered"):
        registry.update_config("x", {"priority": 1})
    assert registry.get("x") is None


def test_enable_and_disable(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    registry.register(plugin, PluginConfig(enabled=False))
    assert names(registry) == []
    registry.enable("algorithm")
    registry.enable("algorithm")
    assert names(registry) == ["algorithm"]
    registry.disable("algorithm")
    registry.disable("algorithm")
    assert names(registry) == []
    assert heard.words()[1:] == ["enabled algorithm", "disabled algorithm"]
    assert [event.config.enabled for event in heard if event.config] == [False, True, False]
    assert plugin.calls == ["init", "can_handle"]
    assert plugin.is_initialized


def test_update_config_with_the_fields_that_change(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    registry.register(plugin, PluginConfig(config={"scale": 2.0}))
    registry.update_config("algorithm", {"priority": 5})
    assert plugin.calls == ["init"]
    entry = registry.update_config("algorithm", {"config": {"scale": 3.0}, "enabled": False})
    assert plugin.calls == ["init", "init"]
    assert plugin.config == {"scale": 3.0}
    assert entry.config == PluginConfig(enabled=False, priority=5, config={"scale": 3.0})
    assert heard.words()[1:] == ["config-updated algorithm", "config-updated algorithm", "disabled algorithm"]
    registry.update_config("algorithm", entry.config)
    assert len(heard) == 4, "the same once more is no event"


def test_update_config_with_the_whole(registry: PluginRegistry) -> None:
    registry.register(ModelPlugin("a"), PluginConfig(priority=9, config={"x": 1}))
    whole = PluginConfig(limits=PluginLimits(timeout_seconds=3), supported_types=("resource",))
    registry.update_config("a", whole)
    entry = registry.get("a")
    assert entry is not None
    assert entry.config == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prio": 1}, "prio: unknown field"),
        ({"priority": "high"}, "priority: must be a whole number"),
        ({"priority": True}, "priority: must be a whole number"),
        ({"enabled": "yes"}, "enabled: must be true or false"),
        ({"config": [1]}, "config: must be an object"),
        ({"limits": {}}, "limits: must be PluginLimits"),
        ({"supported_types": "resource"}, "supported_types: must be a list"),
        ({"supported_types": ["resources"]}, "supported_types: 'resources' is none of"),
    ],
)
def test_a_wrong_change_changes_nothing(
    registry: PluginRegistry, heard: Heard, changes: dict[str, Any], message: str
) -> None:
    before = registry.register(ModelPlugin("a"))
    with pytest.raises(ValueError, match=message):
        registry.update_config("a", changes)
    assert registry.get("a") is before
    assert len(heard) == 1


def test_settings_that_are_rejected_take_the_plugin_out_until_they_are_mended(
    registry: PluginRegistry, heard: Heard
) -> None:
    plugin = Algorithm("first")
    registry.register(plugin, PluginConfig(priority=1, config={"scale": 1.0}))
    registry.register(ModelPlugin("second"))
    with pytest.raises(InvalidDataError, match=r"config\.scale"):
        registry.update_config("first", {"config": {"scale": "wide"}})
    entry = registry.get("first")
    assert entry is not None
    assert entry.problem is not None
    assert entry.problem.startswith("config.scale: ")
    assert entry.config.config == {"scale": "wide"}
    assert plugin.config == {"scale": 1.0}
    assert names(registry) == ["second"]

    registry.disable("first")
    registry.enable("first")
    registry.update_config("second", {"priority": 7})
    assert names(registry) == ["second"], "the settings are still the same"

    registry.update_config("first", {"config": {"scale": 1.0}, "priority": 8})
    assert names(registry) == ["first", "second"]
    assert [event.kind for event in heard if event.plugin == "first"] == [
        "registered",
        "config-updated",
        "error",
        "disabled",
        "enabled",
        "config-updated",
    ]


def test_an_init_that_fails_is_tried_again_with_the_next_update(registry: PluginRegistry) -> None:
    plugin = Algorithm()
    registry.register(plugin)
    plugin.failing["init"] = OSError("no model file")
    with pytest.raises(PluginError, match="no model file"):
        registry.update_config("algorithm", {"config": {"scale": 2.0}})
    assert names(registry) == []
    plugin.failing.clear()
    registry.update_config("algorithm", {})
    assert names(registry) == ["algorithm"]


def test_select_asks_by_type_and_by_name(registry: PluginRegistry) -> None:
    registry.register(ModelPlugin("any"))
    registry.register(ModelPlugin("packs", ["resource"]), PluginConfig(priority=1))
    registry.register(Algorithm("places", ["scheduling"]), PluginConfig(priority=2))
    registry.register(ModelPlugin("narrowed"), PluginConfig(supported_types=("performance",)))
    assert names(registry, "resource") == ["packs", "any"]
    assert names(registry, "scheduling") == ["places", "any"]
    assert names(registry, "performance") == ["any", "narrowed"]
    assert names(registry, "resource", plugin="any") == ["any"]
    assert names(registry, "resource", plugin="places") == [], "a pinned plugin must be able, too"
    assert names(registry, "resource", plugin="absent") == []
    assert names(registry, "resource", plugin="none") == []


def test_a_plugin_sees_the_type_or_the_request(registry: PluginRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    model, algorithm = ModelPlugin("model"), Algorithm("algorithm")
    monkeypatch.setattr(model, "can_handle", lambda what: bool(seen.append(what)))
    monkeypatch.setattr(algorithm, "can_handle", lambda what: bool(seen.append(what)))
    registry.register(algorithm)
    registry.register(model)
    asked = request("resource", items=[])
    assert registry.select(asked) == []
    assert seen[0] is asked
    assert seen[1] == "resource"


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (RuntimeError("boom\nand more"), "can_handle failed: RuntimeError: boom and more"),
        (SystemExit(3), "can_handle failed: SystemExit: 3"),
        (UnreadableError(), "can_handle failed: UnreadableError: its text cannot be read"),
        (ValueError(), "can_handle failed: ValueError"),
    ],
)
def test_a_plugin_whose_can_handle_raises_is_passed_over(
    registry: PluginRegistry, heard: Heard, failure: BaseException, message: str
) -> None:
    plugin = Algorithm("bad")
    registry.register(plugin, PluginConfig(priority=9))
    registry.register(ModelPlugin("good"))
    heard.clear()
    plugin.failing["can_handle"] = failure
    assert names(registry) == ["good"]
    assert heard.words() == ["error bad"]
    assert heard[0].message == message
    plugin.failing.clear()
    assert names(registry) == ["bad", "good"]


def test_a_long_error_is_cut(registry: PluginRegistry, heard: Heard) -> None:
    plugin = Algorithm()
    registry.register(plugin)
    plugin.failing["can_handle"] = ValueError("x" * 1_000_000)
    assert names(registry) == []
    assert len(heard[-1].message) < 1100


async def _eventually() -> bool:
    return True


@pytest.mark.parametrize("make", [lambda: None, lambda: 1, lambda: "yes", _eventually])
def test_can_handle_must_say_true_or_false(
    registry: PluginRegistry, heard: Heard, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    plugin = ModelPlugin("odd")
    monkeypatch.setattr(plugin, "can_handle", lambda _type: make())
    registry.register(plugin)
    assert names(registry) == []
    assert "can_handle must return True or False, not" in heard[-1].message


def test_errors_that_repeat_are_logged_once(registry: PluginRegistry, caplog: pytest.LogCaptureFixture) -> None:
    plugin = Algorithm()
    registry.register(plugin)
    for text in ("a", "a", "b"):
        plugin.failing["can_handle"] = ValueError(text)
        names(registry)
    assert [record.getMessage() for record in caplog.records] == [
        "plugin algorithm: can_handle failed: ValueError: a",
        "plugin algorithm: can_handle failed: ValueError: b",
    ]


def test_errors_from_elsewhere_are_told(registry: PluginRegistry, heard: Heard) -> None:
    entry = registry.register(ModelPlugin("a"))
    registry.report_error("a", "no answer within 10 s")
    registry.report_error("absent", "cannot be imported")
    assert [(event.kind, event.plugin, event.config, event.message) for event in heard[1:]] == [
        ("error", "a", entry.config, "no answer within 10 s"),
        ("error", "absent", None, "cannot be imported"),
    ]


PLUGINS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3),
    st.tuples(
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([None, ["resource"], ["resource", "scheduling"], ["performance"]]),
    ),
    max_size=8,
)


@hypothesis.given(PLUGINS, st.sampled_from(["resource", "scheduling", "performance", "ml-driven"]))
def test_selection_is_by_priority_then_name_whatever_the_order_of_registration(
    plugins: dict[str, tuple[bool, int, list[str] | None]], request_type: str
) -> None:
    registry = PluginRegistry()
    for name, (enabled, priority, types) in plugins.items():
        registry.register(ModelPlugin(name, types), PluginConfig(enabled=enabled, priority=priority))
    chosen = registry.select(request(request_type))
    keys = [(-entry.config.priority, entry.name) for entry in chosen]
    assert keys == sorted(keys)
    able = {name for name, (on, _, types) in plugins.items() if on and (types is None or request_type in types)}
    assert {entry.name for entry in chosen} == able
    assert len(registry.list()) == len(plugins)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.one_of(
            st.sampled_from(["register", "unregister", "enable", "disable"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "enabled": st.booleans(),
                    "priority": st.integers(0, 2),
                    "config": st.sampled_from([{}, {"scale": 2.0}, {"scale": "wide"}]),
                },
            ),
        ),
    ),
    max_size=20,
)


@hypothesis.given(CHANGES)
def test_events_tell_the_whole_story(changes: list[tuple[str, str | dict[str, Any]]]) -> None:
    """Who listens from the start, and reads nothing but events, knows how each plugin is used."""
    registry, heard = PluginRegistry(), Heard()
    told: dict[str, PluginConfig | None] = {}
    registry.subscribe(heard)
    for name, change in changes:
        try:
            if isinstance(change, dict):
                registry.update_config(name, change)
            elif change == "register":
                registry.register(Algorithm(name))
            else:
                getattr(registry, change)(name)
        except (LookupError, ValueError):
            pass
    for event in heard:
        if event.kind == "registered":
            assert event.plugin not in told
            told[event.plugin] = event.config
        elif event.kind == "unregistered":
            del told[event.plugin]
        elif event.kind != "error":
            assert event.config is not None
            assert event.config.enabled == (event.kind == "enabled") or event.kind == "config-updated"
            told[event.plugin] = event.config
    assert told == {entry.name: entry.config for entry in registry.list()}
