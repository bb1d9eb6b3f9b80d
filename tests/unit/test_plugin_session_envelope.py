"""The two readers of what a plugin returned agree: the one beside the plugin, and the one beside the problem."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine_ops.api.quantity import MAX_AMOUNT
from engine_ops.ml.scoring import resource_key, scored_values
from engine_ops.plugins.answers import Prediction, Question, Refusal, read_reply
from engine_ops.plugins.messages import MAX_REPLY_BYTES, MAX_SCORED, Replied
from engine_ops.plugins.session_reply import MAX_ENVELOPE_BYTES, replied

numbers = st.integers(-(2**70), 2**70) | st.floats()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.binary(max_size=3) | st.just("500m")
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "gpu"]), values | st.floats(0, 9) | st.just("2Gi"))
results = values | st.fixed_dictionaries(
    {}, optional={"expected_duration": values, "success_rate": st.floats(), "recommended_resources": amounts | values}
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans() | values,
        "result": results,
        "error": values,
        "confidence": st.floats(0, 1) | values,
        "model_id": st.text(max_size=300) | values,
        "metadata": values,
        "expected_duration": values,
    },
)


@settings(max_examples=400)
@given(envelopes | values)
@example({"result": {"success_rate": 0.0, "recommended_resources": {"cpu": 2.0**63}}})
def test_they_agree(returned: Any) -> None:
    here, there = replied(returned), read_reply(returned, Question("ml-driven"), algorithm="p")
    assert (here.no is not None) == isinstance(there.said, Refusal)
    if isinstance(there.said, Refusal):
        assert here.failed is not there.said.by_plugin
        assert here.envelope == b""
    else:
        assert isinstance(there.said, Prediction)
        assert (here.model_id, here.claimed_confidence) == (there.model_id, there.claimed_confidence)
        # What is sent is read as what was returned.
        sent = read_reply(msgspec.json.decode(here.envelope), Question("ml-driven"), algorithm="p")
        assert sent == there
        # Quantities are scored beside the plain numbers; of resources, what is too much for a quantity is no amount.
        plain = scored_values(there.prediction)
        excess = {key for key, value in plain.items() if key.startswith(resource_key("")) and value >= MAX_AMOUNT}
        assert here.scored.items() >= {key: plain[key] for key in plain.keys() - excess}.items()
        assert not here.scored.keys() & excess
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(here), type=Replied) == here


def test_not_everything_is_scored() -> None:
    returned = {"recommended_resources": {f"r{number}": 1 for number in range(1000)} | {"x" * 300: 1}}
    assert len(replied(returned).scored) == MAX_SCORED


def test_the_largest_reply_fits_into_a_message() -> None:
    amounts = {f"{number:02}" + "\U0001f600" * 251: 1 for number in range(MAX_SCORED)}
    returned: dict[str, Any] = {
        "result": {"recommended_resources": amounts, "rest": ""},
        "model_id": "\U0001f600" * 253,
    }
    returned["result"]["rest"] = "x" * (MAX_ENVELOPE_BYTES - len(msgspec.json.encode(returned)))
    reply = replied(returned)
    assert (len(reply.envelope), len(reply.scored)) == (MAX_ENVELOPE_BYTES, MAX_SCORED)
    assert len(msgspec.msgpack.encode(reply)) <= MAX_REPLY_BYTES
    returned["result"]["rest"] += "x"
    assert replied(returned).failed
