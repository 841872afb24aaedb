"""Every route by every role, bound and not, on one's own contents and another's: the table in docs/access.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from index_sidecar.access.roles import Role
from index_sidecar.http.call import Call
from index_sidecar.http.codes import Meets
from index_sidecar.http.routes import CALLS
from index_sidecar.http.search_page import FILES
from index_sidecar.settings import Settings

from ..support.keys import asking, key
from ..support.sidecar import ROOT, Sidecar

# Who asks: the columns of the table in docs/access.md.
CALLERS: dict[str, tuple[Role, str | None] | None] = {"no key": None}
CALLERS |= {role.word: (role, None) for role in Role} | {f"{role.word} of ada": (role, "ada") for role in Role}
HEAD = f"| call | {' | '.join(CALLERS)} |\n|{'---|' * (len(CALLERS) + 1)}"
PAGE = (ROOT / "docs" / "access.md").read_text()


@dataclass(frozen=True)
class Request:
    """A request to a call that is in order, for the content of a user."""

    path: str
    body: bytes | None
    media: str = "application/octet-stream"

    @classmethod
    def to(cls, call: Call, user: str) -> Request:
        ids = {"id": f"of-{user}", "user": user, "type": "text"}
        path = call.path
        for name, value in {**ids, "file": min(name for name in FILES if name.endswith(".js"))}.items():
            path = path.replace(f"{{{name}}}", value)
        wanted = [each.name for each in call.takes if each.required and f"{{{each.name}}}" not in call.path]
        if call.path.endswith("/add_content"):
            wanted.append("user")
        query = "&".join(f"{name}={ids[name]}" for name in dict.fromkeys(wanted))
        path = f"{path}?{query}" if query else path
        if call.sends is not None:
            return cls(path, json.dumps({"query": [{"id": ids["id"]}]}).encode(), "application/json")
        if Meets.MANY in call.meets:
            head = f"X-Content-Parameters: {urlencode(ids)}\r\nContent-Disposition: form-data; name=c"
            return cls(path, f"--x\r\n{head}\r\n\r\na text\r\n--x--\r\n".encode(), "multipart/form-data; boundary=x")
        bodies = {"POST": b"a text", "PATCH": b'{"title": "a title"}'}
        return cls(path, bodies.get(call.method))


async def _refusal(sidecar: Sidecar, call: Call, user: str, with_key: str | None) -> str | None:
    """The code by which the call is refused to who shows a key, if it is."""
    request = Request.to(call, user)
    headers = {"Content-Type": request.media} | ({"Authorization": f"Bearer {with_key}"} if with_key else {})
    async with sidecar.client.request(call.method, request.path, data=request.body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status < 300 or answer.status in (401, 403), (answer.status, text)
        if answer.content_type != "application/x-ndjson" and answer.status < 300:
            return None
        error = json.loads(text.splitlines()[0]).get("error")
        return str(error["code"]) if error else None


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_every_route_by_every_role(locked: Settings, call: Call) -> None:
    """What a role may not do is refused before anything is looked up; what it may do is never refused."""
    keys = {name: key(locked, *who) if who else None for name, who in CALLERS.items()}
    cells = []
    async with asking(locked) as (sidecar, ask):
        for name, who in CALLERS.items():
            refusals = {}
            for user in ("ada", "grace"):
                added = await ask("POST", f"/add_content?id=of-{user}&type=text&user={user}", keys["admin"], b"x")
                assert added.status < 300
                refusals[user] = await _refusal(sidecar, call, user, keys[name])
                if call.role is None:
                    expected = None
                elif who is None:
                    expected = "missing_key"
                elif who[0] < call.role:
                    expected = "forbidden"
                elif call.role is Role.WRITER and who == (Role.WRITER, "ada") and user != "ada":
                    expected = "forbidden"  # another's contents
                else:
                    expected = None
                assert refusals[user] == expected, (name, user)
            same = refusals["ada"] == refusals["grace"]
            cells.append({None: "yes", "missing_key": "401", "forbidden": "403"}[refusals["ada"]] if same else "own")
    row = f"| `{call.method} {call.path}` | {' | '.join(cells)} |"
    assert row in PAGE.split("\n"), f"docs/access.md should say:\n{row}"


def test_the_table_of_routes_and_roles_has_each_route_once() -> None:
    assert HEAD in PAGE, f"docs/access.md should say:\n{HEAD}"
    rows = [row for row in PAGE.partition(HEAD)[2].strip().partition("\n\n")[0].split("\n") if row]
    assert [row.split("`")[1] for row in rows] == [f"{call.method} {call.path}" for call in CALLS]
