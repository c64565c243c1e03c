import pytest

from server.page import asset_paths

pytestmark = pytest.mark.unit

URL = "http://127.0.0.1:49153/visits/new"


def test_the_files_that_a_page_of_rails_needs_are_found_in_its_order() -> None:
    html = """<!DOCTYPE html><head><link rel="stylesheet" href="/assets/a-1.css" media="all"/>
        <link rel="icon shortcut" href="/favicon.ico"><link rel=modulepreload href=/assets/m.js>
        <script src="/packs/b-2.js?x=1#y" defer></script><script>var notThis = '<img src="/no.png">'</script></head>
        <body><img src="logo.png" alt=""><a href="/elsewhere">page</a><img src="/assets/a-1.css"></body>"""
    assert asset_paths(html, URL) == [
        "/assets/a-1.css", "/favicon.ico", "/assets/m.js", "/packs/b-2.js?x=1", "/visits/logo.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "html",
    [
        '<link rel="canonical" href="/page"><link rel="next" href="/page2">',
        '<script src="https://cdn.example.org/x.js"></script><img src="//cdn.example.org/x.png">',
        '<img src="data:image/png;base64,AAAA"><img src=""><img><script></script>',
        "",
        "<not <html",
    ],
)
def test_other_pages_other_servers_and_nonsense_name_no_file_of_the_image(html: str) -> None:
    assert asset_paths(html, URL) == []


def test_a_server_that_was_asked_under_another_name_is_the_pages_own() -> None:
    html = '<img src="https://lab.example.org/a.png"><img src="http://127.0.0.1:49153/b.png">'
    assert asset_paths(html, URL, "lab.example.org") == ["/a.png", "/b.png"]


def test_a_base_element_moves_relative_references() -> None:
    assert asset_paths('<base href="/app/"><img src="a.png">', URL) == ["/app/a.png"]
