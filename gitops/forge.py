"""GitHub and GitLab, as far as a release needs them: comments of a pull request, the one of a commit, an issue.

Sources: GitHub's REST API 2022-11-28 (issues/comments, commits/pulls, issues); GitLab's REST API v4 (notes, commits/
merge_requests, issues).
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from errors import ReleaseError

PAGE = 100
"""Entries a page: the most that both give."""


@dataclass(frozen=True)
class Note:
    """A comment, or an issue. number: what the forge calls it by."""

    number: int
    body: str


class Forge(ABC):
    """A repository on a forge, with the account of its jobs.

    Only what that account has written is ever read back: anybody may comment, also with a marker of ours.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @abstractmethod
    def comments(self, request: int) -> Iterator[Note]:
        """Those of ours on a pull request."""

    @abstractmethod
    def comment(self, request: int, body: str, instead_of: Note | None) -> None:
        """Writes a comment, or writes another one anew."""

    @abstractmethod
    def merged_as(self, commit: str) -> int | None:
        """The number of the merged pull request that a commit of the main branch comes from."""

    @abstractmethod
    def open_issues(self, label: str) -> Iterator[Note]:
        """Those of ours that are open, with a label."""

    @abstractmethod
    def open_issue(self, title: str, body: str, label: str, instead_of: Note | None) -> None:
        """Opens an issue, or writes one anew."""

    @abstractmethod
    def close_issue(self, issue: Note, why: str) -> None:
        """Says why, and closes it."""

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._answer(method, path, body).json()

    def _all(self, path: str) -> Iterator[dict[str, Any]]:
        """Every entry of a list, page after page."""
        separator = "&" if "?" in path else "?"
        answer = self._answer("GET", f"{path}{separator}per_page={PAGE}")
        while True:
            yield from answer.json()
            following = answer.links.get("next", {}).get("url")
            if not following:
                return
            answer = self._answer("GET", following)

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ReleaseError(f"{self._client.base_url} does not answer: {type(error).__name__}") from None
        if not answer.is_success:
            raise ReleaseError(
                f"{method} {answer.request.url.path} was refused with status {answer.status_code}. Has the job's "
                f"account the right to it? See docs/gitops.md\n{answer.text[:300]}"
            )
        return answer


class GitHub(Forge):
    """A repository on GitHub. author: the login of the jobs' account."""

    def __init__(self, client: httpx.Client, repository: str, author: str) -> None:
        super().__init__(client)
        self._path, self._author = f"/repos/{repository}", author

    def _is_ours(self, entry: Mapping[str, Any]) -> bool:
        return (entry.get("user") or {}).get("login") == self._author

    def comments(self, request: int) -> Iterator[Note]:
        """Those of ours on a pull request."""
        for entry in self._all(f"{self._path}/issues/{request}/comments"):
            if self._is_ours(entry):
                yield Note(int(entry["id"]), str(entry.get("body") or ""))

    def comment(self, request: int, body: str, instead_of: Note | None) -> None:
        """Writes a comment, or writes another one anew."""
        if instead_of:
            self._call("PATCH", f"{self._path}/issues/comments/{instead_of.number}", {"body": body})
        else:
            self._call("POST", f"{self._path}/issues/{request}/comments", {"body": body})

    def merged_as(self, commit: str) -> int | None:
        """The number of the merged pull request that a commit of the main branch comes from."""
        for entry in self._all(f"{self._path}/commits/{commit}/pulls"):
            if entry.get("merged_at") and entry.get("merge_commit_sha") == commit:
                return int(entry["number"])
        return None

    def open_issues(self, label: str) -> Iterator[Note]:
        """Those of ours that are open, with a label."""
        for entry in self._all(f"{self._path}/issues?state=open&labels={label}"):
            if self._is_ours(entry) and "pull_request" not in entry:
                yield Note(int(entry["number"]), str(entry.get("body") or ""))

    def open_issue(self, title: str, body: str, label: str, instead_of: Note | None) -> None:
        """Opens an issue, or writes one anew."""
        if instead_of:
            self._call("PATCH", f"{self._path}/issues/{instead_of.number}", {"title": title, "body": body})
        else:
            self._call("POST", f"{self._path}/issues", {"title": title, "body": body, "labels": [label]})

    def close_issue(self, issue: Note, why: str) -> None:
        """Says why, and closes it."""
        self.comment(issue.number, why, None)
        self._call("PATCH", f"{self._path}/issues/{issue.number}", {"state": "closed"})


class GitLab(Forge):
    """A project on GitLab."""

    def __init__(self, client: httpx.Client, project: str) -> None:
        super().__init__(client)
        self._path = f"/projects/{project}"

    def _ours(self, path: str) -> Iterator[dict[str, Any]]:
        author = self._call("GET", "/user")["id"]
        return (entry for entry in self._all(path) if entry["author"]["id"] == author)

    def comments(self, request: int) -> Iterator[Note]:
        """Those of ours on a merge request."""
        for entry in self._ours(f"{self._path}/merge_requests/{request}/notes"):
            yield Note(int(entry["id"]), str(entry["body"]))

    def comment(self, request: int, body: str, instead_of: Note | None) -> None:
        """Writes a comment, or writes another one anew."""
        path = f"{self._path}/merge_requests/{request}/notes"
        if instead_of:
            self._call("PUT", f"{path}/{instead_of.number}", {"body": body})
        else:
            self._call("POST", path, {"body": body})

    def merged_as(self, commit: str) -> int | None:
        """The number of the merged merge request that a commit of the main branch comes from."""
        for entry in self._all(f"{self._path}/repository/commits/{commit}/merge_requests"):
            became = (entry.get("merge_commit_sha"), entry.get("squash_commit_sha"), entry.get("sha"))
            if entry["state"] == "merged" and commit in became:
                return int(entry["iid"])
        return None

    def open_issues(self, label: str) -> Iterator[Note]:
        """Those of ours that are open, with a label."""
        for entry in self._ours(f"{self._path}/issues?state=opened&labels={label}"):
            yield Note(int(entry["iid"]), str(entry.get("description") or ""))

    def open_issue(self, title: str, body: str, label: str, instead_of: Note | None) -> None:
        """Opens an issue, or writes one anew."""
        if instead_of:
            self._call("PUT", f"{self._path}/issues/{instead_of.number}", {"title": title, "description": body})
        else:
            self._call("POST", f"{self._path}/issues", {"title": title, "description": body, "labels": label})

    def close_issue(self, issue: Note, why: str) -> None:
        """Says why, and closes it."""
        self._call("POST", f"{self._path}/issues/{issue.number}/notes", {"body": why})
        self._call("PUT", f"{self._path}/issues/{issue.number}", {"state_event": "close"})


@dataclass(frozen=True)
class Job:
    """The job that runs this.

    commit:  what it works on
    request: the number of its pull request; None: it has none
    run:     where people read what it prints, "" where that is not known
    """

    forge: Forge
    commit: str
    request: int | None
    run: str


def job(environment: Mapping[str, str] | None = None) -> Job:
    """From the variables that GitHub Actions and GitLab CI set. Raises ReleaseError elsewhere."""
    given = os.environ if environment is None else environment
    if given.get("GITHUB_ACTIONS"):
        return _github(given)
    if given.get("GITLAB_CI"):
        return _gitlab(given)
    raise ReleaseError("this is no job of GitHub Actions or GitLab CI: neither GITHUB_ACTIONS nor GITLAB_CI is set")


def _github(given: Mapping[str, str]) -> Job:
    headers = {
        "Authorization": f"Bearer {_needed(given, 'GITHUB_TOKEN', 'github.token, in the env of the step')}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    repository = given["GITHUB_REPOSITORY"]
    # The token of a job cannot ask who it is.
    author = given.get("RELEVE_COMMENTS_BY", "github-actions[bot]")
    forge = GitHub(_client(given["GITHUB_API_URL"], headers), repository, author)
    event = json.loads(Path(given["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    request = event.get("pull_request")
    commit = request["head"]["sha"] if request else given["GITHUB_SHA"]
    run = f"{given['GITHUB_SERVER_URL']}/{repository}/actions/runs/{given['GITHUB_RUN_ID']}"
    return Job(forge, commit, int(request["number"]) if request else None, run)


def _gitlab(given: Mapping[str, str]) -> Job:
    token = _needed(given, "RELEVE_GITLAB_TOKEN", "a project access token with the scope api; CI_JOB_TOKEN may not")
    request = given.get("CI_MERGE_REQUEST_IID")
    return Job(
        GitLab(_client(given["CI_API_V4_URL"], {"PRIVATE-TOKEN": token}), given["CI_PROJECT_ID"]),
        given["CI_COMMIT_SHA"],
        int(request) if request else None,
        given.get("CI_JOB_URL", ""),
    )


def _client(url: str, headers: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(base_url=url, headers=dict(headers), timeout=30)


def _needed(given: Mapping[str, str], name: str, what: str) -> str:
    if not given.get(name):
        raise ReleaseError(f"{name} is not set: it is to be {what}")
    return given[name]
