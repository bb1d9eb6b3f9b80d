"""Who may do what over HTTP: one table, tried on a real control plane and printed in docs/rest-api.md.

``python tests/unit/permission_table.py`` prints the section of the page.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "rest-api.md"
BEGIN: Final = "<!-- who-may-do-what: begin (python tests/unit/permission_table.py prints it) -->"
END: Final = "<!-- who-may-do-what: end -->"

KNOWN: Final = ("admin", "editor", "viewer", "stranger")
"""ServiceAccounts of the namespace ``shop``; `tests/apiserver/api_users.py` binds their roles."""
NO_TOKEN: Final = "no token"
BAD_TOKENS: Final = ("garbage", "expired", "other audience", "forged")
"""Each of them is treated as no token is."""
CALLERS: Final = (*KNOWN, NO_TOKEN, *BAD_TOKENS)

PLUGIN: Final = "oracle"
SMALL: Final[dict[str, Any]] = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
QUESTION: Final[dict[str, Any]] = {"id": "web", "type": "resource", "data": SMALL, "searchSeconds": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApiCall:
    """A row.

    Parameters
    ----------
    method, path
        As they are sent: ``{job}`` stands for the id of an asynchronous request that the editor made, ``{other}`` for a
        namespace in which nobody of the callers has a role of Kubernetes, and only the admin one of the whole cluster.
    note
        What the page says beside it.
    body
        What is sent as JSON; None for nothing. ``{unique}`` in an id is replaced by an id for each call.
    headers
        Further ones.
    statuses
        For admin, editor, viewer, stranger, and for those whom the API does not know.
    """

    method: str
    path: str
    statuses: tuple[int, int, int, int, int]
    note: str = ""
    body: dict[str, Any] | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in tests."""
        return f"{self.method} {self.path}{' later' if 'Prefer' in self.headers else ''}"

    def status(self, caller: str) -> int:
        """Return what a caller is answered."""
        return dict(zip(KNOWN, self.statuses, strict=False)).get(caller, self.statuses[-1])


_DATA: Final = "/api/v1/plugins/workload-data"
_EVERYBODY: Final = (200, 200, 200, 200, 200)
_KNOWN_ONES: Final = (200, 200, 200, 200, 401)
_ADMIN: Final = (200, 403, 403, 403, 401)
_READERS: Final = (200, 200, 200, 403, 401)
_EDITORS: Final = (200, 200, 403, 403, 401)
_OWNER: Final = (404, 200, 404, 404, 401)

TABLE: Final = (
    ApiCall(method="GET", path="/api/v1/health", statuses=_EVERYBODY),
    ApiCall(method="GET", path="/", statuses=_KNOWN_ONES),
    ApiCall(method="GET", path="/openapi.json", statuses=_KNOWN_ONES),
    ApiCall(method="POST", path="/api/v1/optimize", note="in `shop`", body=QUESTION, statuses=_EDITORS),
    ApiCall(
        method="POST",
        path="/api/v1/optimize?namespace={other}",
        note="in another namespace",
        body=QUESTION,
        statuses=_ADMIN,
    ),
    ApiCall(
        method="POST",
        path="/api/v1/optimize",
        note="`Prefer: respond-async`",
        body=QUESTION | {"id": "{unique}"},
        headers={"Prefer": "respond-async"},
        statuses=(202, 202, 403, 403, 401),
    ),
    ApiCall(method="GET", path="/api/v1/optimize/{job}", note="an id of the editor's", statuses=_OWNER),
    ApiCall(method="GET", path="/api/v1/optimize/{job}/events", note="an id of the editor's", statuses=_OWNER),
    ApiCall(method="DELETE", path="/api/v1/optimize/{job}", note="an id of the editor's", statuses=_OWNER),
    ApiCall(method="GET", path="/api/v1/plugins", statuses=_READERS),
    ApiCall(method="GET", path=f"/api/v1/plugins/{PLUGIN}", statuses=_READERS),
    ApiCall(method="POST", path=f"/api/v1/plugins/{PLUGIN}/enable", statuses=_ADMIN),
    ApiCall(method="POST", path=f"/api/v1/plugins/{PLUGIN}/disable", statuses=_ADMIN),
    ApiCall(method="PATCH", path=f"/api/v1/plugins/{PLUGIN}", body={"priority": 7}, statuses=_ADMIN),
    ApiCall(method="GET", path=f"{_DATA}/stats", note="what may be seen", statuses=_EDITORS),
    ApiCall(method="GET", path=f"{_DATA}/export", note="what may be seen", statuses=_EDITORS),
    ApiCall(method="GET", path=f"{_DATA}/training-format", note="what may be seen", statuses=_EDITORS),
    ApiCall(method="GET", path=f"{_DATA}/export?namespace={{other}}", note="of another namespace", statuses=_ADMIN),
    ApiCall(method="GET", path="/api/v1/metrics", statuses=_ADMIN),
    ApiCall(method="GET", path="/api/v1/cache/stats", statuses=_ADMIN),
)

_INTRODUCTION: Final = """\
What that means for four ServiceAccounts of the namespace `shop`, tried cell by cell on a real API server, with curl and
with the Python client. The editor and the viewer have Kubernetes' roles `edit` and `view` there, and `engine-ops-view`
in the whole cluster to see the plugins. The admin has `admin` there, and in the whole cluster
`engine-ops-plugin-editor`, `engine-ops-edit` and `engine-ops-api-metrics`. The stranger has nothing. The last column is
for everybody without a token, and with one that has expired, is for another audience, was forged, or is none."""


def section() -> str:
    """Return the section of the page, with its markers."""
    lines = [BEGIN, _INTRODUCTION, "", "| call | | admin | editor | viewer | stranger | no good token |"]
    lines.append("|---|---|---|---|---|---|---|")
    for call in TABLE:
        path = call.path.format(job="{id}", other="dev")
        lines.append(f"| `{call.method} {path}` | {call.note} | {' | '.join(map(str, call.statuses))} |")
    return "\n".join([*lines, END])


if __name__ == "__main__":
    print(section())  # noqa: T201
