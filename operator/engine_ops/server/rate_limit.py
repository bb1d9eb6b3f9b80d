"""How often somebody may ask."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_KEYS: Final = 10_000


class RateLimiter:
    """A token bucket for each key, all of one size.

    Kept as the generic cell rate algorithm has it (ITU-T I.371, annex A): one number a key, the moment at which its
    bucket is full again. Nothing runs in the background. Belongs to one event loop: there is no lock.

    Parameters
    ----------
    per_second
        Tokens that come back in a second.
    burst
        Tokens in a full bucket, at least 1.
    max_keys
        How many keys are remembered. Beyond it the key that was seen the longest ago is forgotten, which can only let
        somebody ask more: who has that many names or addresses has as many buckets anyway.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if per_second <= 0 or burst < 1 or max_keys < 1:
            raise ValueError(f"no rate limit can be {per_second} a second with a burst of {burst} for {max_keys} keys")
        self._interval_seconds = 1 / per_second
        self._burst_seconds = burst / per_second
        self._max_keys = max_keys
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._full_at)

    def take(self, key: str) -> float | None:
        """Take a token.

        Parameters
        ----------
        key
            Whose: a user's name, or `address_key`.

        Returns
        -------
        float or None
            None if there was one. Else the seconds until there is one, above 0; nothing was taken.
        """
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._interval_seconds
        wait_seconds = self._wait(full_at, now)
        if wait_seconds is not None:
            return wait_seconds
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)
        return None

    def wait_seconds(self, key: str) -> float | None:
        """Return what `take` would, and take nothing.

        For what is counted only when it fails: look before, take after the failure.
        """
        now = self._clock()
        return self._wait(max(self._full_at.get(key, now), now) + self._interval_seconds, now)

    def _wait(self, full_at: float, now: float) -> float | None:
        # A millionth of a token is rounding: who waits for as long as was said has one.
        excess = full_at - now - self._burst_seconds
        return excess if excess > self._interval_seconds * 1e-6 else None


def address_key(host: str | None) -> str:
    """Return the key of a client's address.

    Parameters
    ----------
    host
        Of the ASGI scope's ``client``; None where there is none.

    Returns
    -------
    str
        An IPv4 address as it is; of an IPv6 address the network of 64 bits, all of which one host can call its own.
    """
    if host is None:
        return "address:"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return f"address:{host}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"address:{ipaddress.IPv6Network((address, 64), strict=False)}"
        address = address.ipv4_mapped
    return f"address:{address}"
