"""A registry for tests: the manifests part of the distribution API, over real HTTP, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class RegistryServer:
    """What the registry holds and what it was asked.

    manifests: by "path:tag" and "path@digest"
    blobs:     by "path@digest"
    account:   "user:password" that it demands, or None
    tokens:    whether it wants a token for it (as registries in the internet do) or the account itself
    offers:    the WWW-Authenticate headers in place of the one that these demand; {realm} stands for that of the tokens
    hides:     whether it says of what the account alone may see that it does not exist, and asks for no account
    """

    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    account: str | None = None
    tokens: bool = False
    offers: tuple[str, ...] = ()
    hides: bool = False
    realm: str = ""
    status: int | None = None
    host: str = ""

    def hold(self, path: str, tag: str, content: bytes, media_type: str = MANIFEST) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.manifests[f"{path}:{tag}"] = self.manifests[f"{path}@{digest}"] = (content, media_type)
        return digest


class _Handler(BaseHTTPRequestHandler):
    registry: RegistryServer

    def do_GET(self) -> None:
        self.registry.requests.append(f"GET {self.path}")
        if self.path.startswith("/token"):
            self._token()
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif "/tags/list" in self.path and self._allowed():
            self._list()
        elif "/blobs/" in self.path and self._allowed():
            self._answer(200, self.registry.blobs["@".join(self.path.removeprefix("/v2/").split("/blobs/"))])
        elif self._allowed():
            stored = self.registry.manifests.get(self._key())
            if stored:
                self._answer(200, stored[0], stored[1])
            else:
                self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')

    def do_PUT(self) -> None:
        self.registry.requests.append(f"PUT {self.path}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self._allowed():
            path, _, tag = self._key().rpartition(":")
            self.registry.hold(path, tag, content, self.headers["Content-Type"])
            self._answer(201, b"")

    def _list(self) -> None:
        """Two tags a page, as registries list them that have many."""
        path, _, query = self.path.removeprefix("/v2/").partition("/tags/list")
        tags = sorted(name.rpartition(":")[2] for name in self.registry.manifests if name.startswith(f"{path}:"))
        _, _, last = query.partition("last=")
        rest = [tag for tag in tags if tag > last]
        following = f'</v2/{path}/tags/list?n=2&last={rest[1]}>; rel="next"' if len(rest) > 2 else ""
        if tags:
            self._answer(200, json.dumps({"name": path, "tags": rest[:2]}).encode(), link=following)
        else:
            self._answer(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}')

    def _key(self) -> str:
        path, _, name = self.path.removeprefix("/v2/").partition("/manifests/")
        return f"{path}@{name}" if name.startswith("sha256:") else f"{path}:{name}"

    def _allowed(self) -> bool:
        if self.registry.status is not None:
            self._answer(self.registry.status, b"<html>busy</html>", "text/html")
            return False
        if self.registry.account is None:
            return True
        expected = (
            f"Bearer token-of-{self.registry.account}"
            if self.registry.tokens
            else f"Basic {_basic(self.registry.account)}"
        )
        if self.headers.get("Authorization") == expected:
            return True
        if self.registry.hides:
            self._answer(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}')
            return False
        realm = self.registry.realm or f"http://{self.registry.host}/token"
        challenge = 'Bearer realm="{realm}",service="test"' if self.registry.tokens else 'Basic realm="test"'
        offers = [offer.format(realm=realm) for offer in self.registry.offers or (challenge,)]
        self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"sign in"}]}', challenges=offers)
        return False

    def _token(self) -> None:
        if self.headers.get("Authorization") == f"Basic {_basic(str(self.registry.account))}":
            self._answer(200, json.dumps({"token": f"token-of-{self.registry.account}"}).encode())
        else:
            self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')

    def _answer(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        *,
        challenges: Sequence[str] = (),
        link: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for challenge in challenges:
            self.send_header("WWW-Authenticate", challenge)
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate hangs up, which is what some tests are about."""


@contextmanager
def serving(certificate: ssl.SSLContext | None = None) -> Iterator[RegistryServer]:
    """A registry that speaks plain HTTP, or TLS with `certificate`."""
    registry = RegistryServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": registry}))
    if certificate:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _basic(account: str) -> str:
    return base64.b64encode(account.encode()).decode()
