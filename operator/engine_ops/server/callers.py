"""Who calls the REST API, and what they may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Protocol

PATH_PREFIX: Final = "/engine-ops"
"""Before a path of this API where a right names it (``nonResourceURLs``): Kubernetes' own ClusterRole system:discovery
gives everybody who is authenticated ``get`` on ``/api/*``, meaning the API server's."""

SERVICE_ACCOUNT: Final = "system:serviceaccount:"


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    username
        As the API server has it.
    uid
        The same; empty where there is none.
    groups
        Those that the user is in.
    extra
        What else the API server knows of the user.
    token
        The bearer token of this call, for what is done in the caller's name; None where there are no tokens.
    """

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    token: str | None = dataclasses.field(default=None, repr=False)

    @property
    def namespace(self) -> str | None:
        """A ServiceAccount's own namespace; None for other users."""
        if not self.username.startswith(SERVICE_ACCOUNT):
            return None
        namespace, _, name = self.username.removeprefix(SERVICE_ACCOUNT).partition(":")
        return namespace if namespace and name else None


@dataclasses.dataclass(frozen=True, slots=True)
class Right:
    """Something that needs permission: what kubectl would need to do the same.

    Parameters
    ----------
    verb
        ``get``, ``list``, ``create`` ...
    resource
        Of the group ``engineops.dev``; empty for a path of the API itself.
    subresource
        Empty for none.
    namespace
        Empty for what is cluster-scoped, or for all namespaces.
    name
        Of the object; empty for all.
    path
        Where it is a path of the API and no resource (``nonResourceURLs``).
    """

    verb: str
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Unauthenticated(Exception):  # noqa: N818 - the word that HTTP has for it
    """There is no token, or none that is good. The message says which, and tells no secrets."""


class AccessUnavailable(Exception):  # noqa: N818 - as above
    """The API server, who knows, cannot be asked; to be tried again."""


class Access(Protocol):
    """Who calls, and what they may do. Runs on the API's loop."""

    @property
    def open(self) -> bool:
        """Whether there are no tokens: everybody who reaches the port is the user of this machine."""

    async def authenticate(self, token: str | None) -> Caller:
        """Return who calls.

        Raises
        ------
        Unauthenticated
            If the token is missing or not good.
        AccessUnavailable
            If that cannot be known now.
        """

    async def allowed(self, caller: Caller, right: Right) -> bool:
        """Whether a caller has a right.

        Raises
        ------
        AccessUnavailable
            If that cannot be known now.
        """
