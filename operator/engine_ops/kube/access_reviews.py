"""Asking the API server who somebody is (TokenReview) and what they may do (SubjectAccessReview).

It takes the rights of the ClusterRole ``system:auth-delegator``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import UnavailableError

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclasses.dataclass(frozen=True, slots=True)
class ReviewedUser:
    """A user as the API server knows them.

    Parameters
    ----------
    username, uid, groups, extra
        As in ``status.user`` of a TokenReview.
    """

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResourceAttributes:
    """Something done to a resource; the names are those of a SubjectAccessReview, empty for all."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PathAttributes:
    """Something done to a path that is no resource; the names are those of a SubjectAccessReview."""

    verb: str
    path: str


async def review_token(connection: Connection, token: str, audiences: Sequence[str] = ()) -> ReviewedUser | None:
    """Return whose token it is; None if it is not good.

    Parameters
    ----------
    connection
        To the API server, with our own credentials.
    token
        A bearer token.
    audiences
        One of which it must be for; empty for the API server's own.

    Raises
    ------
    ApiError, UnavailableError
        If the API server does not tell.
    """
    spec: dict[str, Any] = {"token": token}
    if audiences:
        spec["audiences"] = list(audiences)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = await connection.request("POST", TOKEN_REVIEWS, body=msgspec.json.encode(review))
    status = _decoded(answer, _TokenReview).status
    # An authenticator that knows no audiences leaves them out of its answer: the token is then one for the API server.
    for_us = not audiences or bool(set(audiences) & set(status.audiences or ()))
    if not (status.authenticated and status.user and status.user.username and for_us):
        return None
    user = status.user
    return ReviewedUser(user.username, user.uid, tuple(user.groups or ()), dict(user.extra or {}))


async def review_access(
    connection: Connection, user: ReviewedUser, attributes: ResourceAttributes | PathAttributes
) -> bool:
    """Whether a user may do something.

    Raises
    ------
    ApiError, UnavailableError
        If the API server does not tell.
    """
    kind = "resourceAttributes" if isinstance(attributes, ResourceAttributes) else "nonResourceAttributes"
    spec = {
        "user": user.username,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
        kind: dataclasses.asdict(attributes),
    }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = await connection.request("POST", ACCESS_REVIEWS, body=msgspec.json.encode(review))
    status = _decoded(answer, _AccessReview).status
    return status.allowed and not status.denied


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: _User | None = None
    audiences: tuple[str, ...] | None = None


class _TokenReview(msgspec.Struct):
    status: _TokenStatus


class _AccessStatus(msgspec.Struct):
    allowed: bool
    denied: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus


_Review = TypeVar("_Review", _TokenReview, _AccessReview)


def _decoded(answer: bytes, kind: type[_Review]) -> _Review:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError:
        # Not `from` the error: what it quotes came with a token.
        raise UnavailableError(f"the API server's answer is no {kind.__name__.removeprefix('_')}") from None
