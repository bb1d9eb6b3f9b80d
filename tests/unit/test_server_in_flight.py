"""The places for questions: none is lost, long searches leave half, and one user leaves one to others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_optimize_world import ASK, URL, Api, kind, run
from server_stand_in import until

from engine_ops.server.in_flight import OTHERS_SECONDS, InFlight, Place
from engine_ops.server.problems import ProblemError


class Places:
    """The places, and a clock that the test turns."""

    def __init__(self, capacity: int) -> None:
        self.now = 1000.0
        self.all = InFlight(lambda: capacity, clock=lambda: self.now)

    def take(self, username: str = "ada", *, long: bool = False, times: int = 1) -> list[Place]:
        return [self.all.take(username, long=long) for _ in range(times)]

    def refusal(self, username: str = "ada", *, long: bool = False) -> tuple[int, str]:
        with pytest.raises(ProblemError) as refused:
            self.all.take(username, long=long)
        assert int(refused.value.headers["Retry-After"]) >= 1
        return refused.value.status, refused.value.detail


def test_a_place_is_given_back_once() -> None:
    places = Places(2)
    first, second = places.take(times=2)
    assert places.refusal()[0] == 503
    first.free()
    first.free()
    assert places.all.taken == 1
    second.free()
    assert places.all.taken == 0
    assert places.all.refused == 1


def test_long_searches_leave_half_of_the_places_whosever_they_are() -> None:
    places = Places(4)
    (first,) = places.take("ada", long=True)
    places.take("bob", long=True)
    status, detail = places.refusal("eve", long=True)
    assert status == 503
    assert "2 questions with long searches" in detail
    assert "at most 2 of 4" in detail
    places.take("eve", times=2)
    assert "long" not in places.refusal("eve", long=True)[1], "now there is no place at all"
    first.free()
    places.take("eve", long=True)


def test_one_place_is_for_any_question() -> None:
    places = Places(1)
    (place,) = places.take(long=True)
    place.free()
    places.take()
    assert places.refusal("bob") == (503, "1 questions are being answered, and at most 1 at once. Ask again later.")
    assert places.refusal("ada")[0] == 429


def test_who_is_alone_may_have_all_places() -> None:
    places = Places(4)
    places.take(times=4)
    assert places.refusal()[0] == 503


def test_who_is_not_alone_leaves_one_place_to_others() -> None:
    places = Places(4)
    held = places.take("ada", times=4)
    assert places.refusal("bob")[0] == 503
    held[0].free()
    status, detail = places.refusal("ada")
    assert status == 429
    assert "3 of your questions" in detail
    places.take("bob")
    assert places.refusal("ada")[0] == 429, "its own limit is told first"
    assert places.refusal("eve")[0] == 503


def test_who_has_been_alone_for_long_may_have_all_places_again() -> None:
    places = Places(4)
    places.take("bob")[0].free()
    places.take("ada", times=3)
    places.now += OTHERS_SECONDS - 1
    assert places.refusal("ada")[0] == 429
    places.now += 1
    places.take("ada")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.sampled_from(["ada", "bob", "eve"]), st.booleans(), st.just(0)),
        st.tuples(st.just("free"), st.just(""), st.just(False), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.just(""), st.just(False), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(st.integers(1, 8), STEPS)
def test_there_is_a_place_for_whoever_may_have_one_and_for_nobody_else(
    capacity: int, steps: list[tuple[str, str, bool, int]]
) -> None:
    places = Places(capacity)
    held: list[tuple[str, bool, Place]] = []
    asked: dict[str, float] = {}
    for action, username, long, number in steps:
        if action == "wait":
            places.now += number
        elif action == "free":
            if held:
                held.pop(number % len(held))[2].free()
        else:
            others = any(who != username and places.now - at < OTHERS_SECONDS for who, at in asked.items())
            asked[username] = places.now
            mine = sum(who == username for who, _, _ in held)
            may = len(held) < capacity
            may &= not long or sum(is_long for _, is_long, _ in held) < max(1, capacity // 2)
            may &= not others or mine < max(1, capacity - 1)
            if may:
                held += [(username, long, *places.take(username, long=long))]
            else:
                places.refusal(username, long=long)
        assert places.all.taken == len(held)
    for _, _, place in held:
        place.free()
    assert places.all.taken == 0
    places.now += OTHERS_SECONDS
    places.take("ada", times=capacity)


def test_over_http_each_refusal_says_which_limit_it_was() -> None:
    async def body(api: Api) -> None:
        engine = api.hold(workers=2)
        api.optimizer.in_flight._clock = lambda: 0.0  # who is alone is so after some seconds
        asks = [ASK | {"id": f"long-{n}", "searchSeconds": 3600, "timeoutSeconds": 3600} for n in range(3)]
        exchanges = [api.ada.start("POST", URL, json=ask) for ask in asks[:2]]
        await until(lambda: api.state() == (2, 0))
        long = await api.ada.post(URL, json=asks[2])
        assert (long.status, kind(long), long.headers["retry-after"]) == (503, "busy", "5")
        assert "long searches" in long.json()["detail"]
        # Of short questions there is room for two more; one of them is kept for others once there are any.
        exchanges.append(api.bob.start("POST", URL, json=ASK | {"searchSeconds": 5}))
        await until(lambda: api.state() == (3, 0))
        exchanges.append(api.ada.start("POST", URL, json=ASK | {"searchSeconds": 5}))
        await until(lambda: api.state() == (4, 0))
        own = await api.ask(id="own")
        assert (own.status, kind(own)) == (429, "too-many-requests")
        assert "of your questions" in own.json()["detail"]
        full = await api.bob.post(URL, json=ASK | {"id": "full"})
        assert (full.status, kind(full)) == (503, "busy")
        for asked in engine.asked:
            asked.answer()
        assert [(await exchange.reply()).status for exchange in exchanges] == [200] * 4
        assert api.state() == (0, 0)
        assert api.optimizer.numbers()["requests"]["refused"] == 3

    run(body, in_flight_per_worker=2)
