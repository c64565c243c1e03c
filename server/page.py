"""The stylesheets, scripts and images that an HTML page needs from its own server."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

LINKS = frozenset({"stylesheet", "icon", "preload", "modulepreload", "manifest", "apple-touch-icon"})
"""Values of a link's `rel` that name a file of the page, rather than another page (HTML standard, link types)."""


def asset_paths(html: str, url: str, host: str = "") -> list[str]:
    """The path and query of every such file, each once, in the page's order; those of other servers are left out.

    url:  where the page was got from
    host: what the server was called in the request (header Host), where that is not what `url` says
    """
    parser = _References()
    parser.feed(html)
    own = {urlsplit(url).netloc, host or urlsplit(url).netloc}
    paths = []
    for reference in parser.found:
        parts = urlsplit(urldefrag(urljoin(urljoin(url, parser.base), reference.strip())).url)
        if parts.scheme in ("http", "https") and parts.netloc in own:
            paths.append(parts.path + (f"?{parts.query}" if parts.query else ""))
    return list(dict.fromkeys(paths))


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "base":
            self.base = self.base or attributes.get("href", "")
        elif tag in ("script", "img"):
            self._add(attributes.get("src"))
        elif tag == "link" and LINKS & set(attributes.get("rel", "").lower().split()):
            self._add(attributes.get("href"))

    def _add(self, reference: str | None) -> None:
        if reference:
            self.found.append(reference)
