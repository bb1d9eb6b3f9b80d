"""How many connections are open, and which one has to go when there are too many."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection, and all together, may take.

    Parameters
    ----------
    connections
        That are open at once.
    handshake_seconds
        For TLS.
    head_seconds
        For the request line and the headers to arrive, from the first byte, or from the connection for the first.
    head_bytes
        Of the request line and the headers together.
    headers
        How many.
    body_seconds
        For the body to arrive, as long as it is being read.
    keep_alive_seconds
        That a connection may wait for the next request.
    write_seconds
        In which the client must have taken something of what is being sent.
    linger_seconds
        That the rest of a request which was answered early is thrown away, so that the client comes to read the answer.
    pipelined
        Requests on one connection that wait for an earlier one.
    """

    connections: int = 1000
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    head_bytes: int = 32 * 2**10
    headers: int = 100
    body_seconds: float = 30.0
    keep_alive_seconds: float = 60.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0
    pipelined: int = 8


class Stage(enum.Enum):
    """What a connection is at, in the order in which they are given up."""

    IDLE = enum.auto()
    """No whole request head is there: TLS, waiting, or slow."""
    RECEIVING = enum.auto()
    """A body is on its way."""
    BUSY = enum.auto()
    """A whole request is being answered."""


class Seat:
    """The place of one connection.

    Parameters
    ----------
    connections
        All of them.
    give_up
        Ends this one at once.
    """

    __slots__ = ("_connections", "give_up", "stage")

    def __init__(self, connections: Connections, give_up: Callable[[], None]) -> None:
        self._connections = connections
        self.give_up = give_up
        self.stage = Stage.IDLE

    def move(self, stage: Stage) -> None:
        """Say what the connection is at now."""
        if stage is not self.stage:
            self._connections.move(self, stage)

    def leave(self) -> None:
        """Say that the connection has ended. May be called again."""
        self._connections.leave(self)


class Connections:
    """All open connections of a listener.

    When there are too many, the one that has been idle the longest makes room: somebody who opens thousands and sends
    nothing ends his own, while who sends a request at once is answered.

    Parameters
    ----------
    limit
        How many may be open.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seats: dict[Stage, OrderedDict[Seat, None]] = {stage: OrderedDict() for stage in Stage}
        self.given_up = 0
        """How many had to make room so far."""
        self.refused = 0
        """How many were refused so far, since all that were open were being answered."""

    def __len__(self) -> int:
        """Return how many are open."""
        return sum(len(seats) for seats in self._seats.values())

    def admit(self, give_up: Callable[[], None]) -> Seat | None:
        """Return a place for a new connection; None where all are being answered."""
        if len(self) >= self._limit and not self._make_room():
            self.refused += 1
            return None
        seat = Seat(self, give_up)
        self._seats[seat.stage][seat] = None
        return seat

    def move(self, seat: Seat, stage: Stage) -> None:
        """See `Seat.move`."""
        if self._seats[seat.stage].pop(seat, seat) is None:
            self._seats[stage][seat] = None
        seat.stage = stage

    def leave(self, seat: Seat) -> None:
        """See `Seat.leave`."""
        self._seats[seat.stage].pop(seat, None)

    def _make_room(self) -> bool:
        for stage in (Stage.IDLE, Stage.RECEIVING):
            if self._seats[stage]:
                seat, _ = self._seats[stage].popitem(last=False)
                self.given_up += 1
                seat.give_up()
                return True
        return False
