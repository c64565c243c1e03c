"""The parts of GitHub's and GitLab's API that releases use: over real HTTP, in memory; what does not fit is refused."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 2
"""Entries a page, whatever is asked for: that a client follows the links shows on short lists already."""
TOKEN = "token-of-the-job"
REPOSITORY = "fablab/releases"


@dataclass
class ForgeServer:
    """What a forge holds.

    comments: request → its comments, in order
    issues:   all of them
    merged:   commit of the main branch → request
    """

    url: str = ""
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    issues: list[dict[str, Any]] = field(default_factory=list)
    merged: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def said_by(self, author: str, request: int, body: str) -> None:
        """A comment by somebody."""
        user = {"login": author, "id": 1 if author == "github-actions[bot]" else 2}
        self.comments.setdefault(request, []).append(
            {"id": next(self.numbers), "body": body, "user": user, "author": user}
        )

    def bodies(self, request: int) -> list[str]:
        return [comment["body"] for comment in self.comments.get(request, [])]

    def github(self, directory: Path, commit: str, request: int | None = None) -> dict[str, str]:
        """The variables of a job of GitHub Actions."""
        event = {"pull_request": {"number": request, "head": {"sha": commit}}} if request else {}
        (directory / "event.json").write_text(json.dumps(event))
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "7",
            "GITHUB_SHA": commit,
            "GITHUB_EVENT_PATH": str(directory / "event.json"),
            "GITHUB_TOKEN": TOKEN,
        }

    def gitlab(self, commit: str, request: int | None = None) -> dict[str, str]:
        """The variables of a job of GitLab CI."""
        return {
            "GITLAB_CI": "true",
            "CI_API_V4_URL": f"{self.url}/api/v4",
            "CI_PROJECT_ID": "9",
            "CI_COMMIT_SHA": commit,
            "CI_JOB_URL": "https://gitlab.example/job/7",
            "RELEVE_GITLAB_TOKEN": TOKEN,
            **({"CI_MERGE_REQUEST_IID": str(request)} if request else {}),
        }


class _Handler(BaseHTTPRequestHandler):
    forge: ForgeServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        gitlab = self.path.startswith("/api/v4")
        given = self.headers["PRIVATE-TOKEN"] if gitlab else self.headers["Authorization"]
        if given != (TOKEN if gitlab else f"Bearer {TOKEN}"):
            return self._send(401, {"message": "401 Unauthorized"})
        path = urlsplit(self.path).path.removeprefix("/api/v4")
        for pattern, function in (_GITLAB if gitlab else _GITHUB).items():
            wanted, _, route = pattern.partition(" ")
            if wanted == method and (found := re.fullmatch(route, path)):
                made = function(self.forge, body, *found.groups())
                return self._page(made) if isinstance(made, list) else self._send(*made)
        return self._send(404, {"message": f"404 {method} {path}"})

    def _page(self, entries: list[dict[str, Any]]) -> None:
        query = parse_qs(urlsplit(self.path).query)
        number = int(query.get("page", ["1"])[0])
        start = (number - 1) * PAGE
        link = ""
        if len(entries) > start + PAGE:
            bare = re.sub(r"[?&]page=\d+", "", self.path)
            following = f"{self.forge.url}{bare}{'&' if '?' in bare else '?'}page={number + 1}"
            link = f'<{following}>; rel="next"'
        self._send(200, entries[start : start + PAGE], link)

    def _send(self, status: int, body: Any, link: str = "") -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _add_comment(forge: ForgeServer, body: dict[str, Any], request: str) -> tuple[int, Any]:
    if set(body) != {"body"} or len(body["body"]) > 65_536:
        return 422, {"message": "Validation Failed"}
    forge.said_by("github-actions[bot]", int(request), body["body"])
    return 201, forge.comments[int(request)][-1]


def _edit_comment(forge: ForgeServer, body: dict[str, Any], number: str) -> tuple[int, Any]:
    for comment in itertools.chain.from_iterable(forge.comments.values()):
        if comment["id"] == int(number):
            if comment["user"]["id"] != 1:
                return 403, {"message": "Forbidden"}
            comment["body"] = body["body"]
            return 200, comment
    return 404, {"message": "Not Found"}


def _merged(forge: ForgeServer, _: object, commit: str) -> list[dict[str, Any]]:
    number = forge.merged.get(commit)
    if number is None:
        return []
    # Another one that holds the same commit, and is not what it came by.
    other = {"number": 1, "iid": 1, "merged_at": None, "state": "opened", "merge_commit_sha": None}
    return [other, {**other, "number": number, "iid": number, "merged_at": "2026", "state": "merged",
                    "merge_commit_sha": commit}]  # fmt: skip


def _open(forge: ForgeServer, *_: object) -> list[dict[str, Any]]:
    return [issue for issue in forge.issues if issue["state"] in ("open", "opened")]


def _add_issue(forge: ForgeServer, body: dict[str, Any]) -> tuple[int, Any]:
    number, ours = next(forge.numbers), {"login": "github-actions[bot]", "id": 1}
    forge.issues.append({**body, "number": number, "iid": number, "state": "open", "user": ours, "author": ours})
    return 201, forge.issues[-1]


def _edit_issue(forge: ForgeServer, body: dict[str, Any], number: str) -> tuple[int, Any]:
    (issue,) = [issue for issue in forge.issues if issue["number"] == int(number)]
    issue.update(body)
    if body.get("state_event") == "close":
        issue["state"] = "closed"
    return 200, issue


_REPOSITORY = f"/repos/{REPOSITORY}"
_GITHUB: dict[str, Any] = {
    rf"GET {_REPOSITORY}/issues/(\d+)/comments": lambda forge, _, request: forge.comments.get(int(request), []),
    rf"POST {_REPOSITORY}/issues/(\d+)/comments": _add_comment,
    rf"PATCH {_REPOSITORY}/issues/comments/(\d+)": _edit_comment,
    rf"GET {_REPOSITORY}/commits/(\w+)/pulls": _merged,
    rf"GET {_REPOSITORY}/issues": _open,
    rf"POST {_REPOSITORY}/issues": _add_issue,
    rf"PATCH {_REPOSITORY}/issues/(\d+)": _edit_issue,
}
_PROJECT = "/projects/9"
_GITLAB: dict[str, Any] = {
    "GET /user": lambda *_: (200, {"id": 1}),
    rf"GET {_PROJECT}/merge_requests/(\d+)/notes": lambda forge, _, request: forge.comments.get(int(request), []),
    rf"POST {_PROJECT}/(?:merge_requests|issues)/(\d+)/notes": _add_comment,
    rf"PUT {_PROJECT}/merge_requests/\d+/notes/(\d+)": _edit_comment,
    rf"GET {_PROJECT}/repository/commits/(\w+)/merge_requests": _merged,
    rf"GET {_PROJECT}/issues": _open,
    rf"POST {_PROJECT}/issues": _add_issue,
    rf"PUT {_PROJECT}/issues/(\d+)": _edit_issue,
}


@contextmanager
def serving() -> Iterator[ForgeServer]:
    """Both of them, at one address."""
    forge = ForgeServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"forge": forge}))
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
