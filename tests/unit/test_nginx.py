"""What an nginx does with the name of a service, read from configurations as people have them."""

from __future__ import annotations

import pytest

from server.nginx import Door, Lookups, doors_of, lookups_of
from server.proxies import command_of

pytestmark = pytest.mark.unit

ONCE = Lookups(asks=False, keeps=True)
AGAIN = Lookups(asks=True, keeps=False)
RARELY = Lookups(asks=True, keeps=False, believes=True)
BOTH = Lookups(asks=True, keeps=True)

RESOLVER = "resolver 127.0.0.11 valid=1s;\n"
ASKED = f"{RESOLVER}server {{\n  location / {{ set $app web; proxy_pass http://$app:3000; }}\n}}\n"
LITERAL = "upstream app {\n  server web:3000;\n}\nserver { location / { proxy_pass http://app; } }\n"
STATIC = "server { root /usr/src/web/public; location /web/ { alias web/assets/; try_files $uri @web; } }\n"

CONFIGURATIONS: dict[str, tuple[str, Lookups | None]] = {
    "in a variable": (ASKED, AGAIN),
    "in an upstream": (LITERAL, ONCE),
    "in an upstream, on several lines": (LITERAL.replace("server web:3000;", "server\n web:3000\n max_fails=0;"), ONCE),
    "in an upstream that resolves": (f"{RESOLVER}{LITERAL.replace('3000;', '3000 resolve;')}", BOTH),
    "in an upstream whose servers are in a file of their own": (
        "http { upstream app { include up/*; } }\n# configuration file /etc/nginx/up/web:\nserver web:3000;\n",
        ONCE,
    ),
    "in both ways": (ASKED + LITERAL, BOTH),
    "in proxy_pass": ("location / { proxy_pass http://web:3000; }", ONCE),
    "in proxy_pass, quoted": ("location / { proxy_pass 'http://web:3000'; }", ONCE),
    "in fastcgi_pass": ("location / { fastcgi_pass web:9000; }", ONCE),
    "in grpc_pass": ("location / { grpc_pass grpcs://web; }", ONCE),
    "in uwsgi_pass": ("location / { uwsgi_pass uwsgi://web:3031; }", ONCE),
    "for streams": ("stream { upstream app { server web:3000; } server { listen 80; proxy_pass app; } }", ONCE),
    "by the container's name": ("location / { proxy_pass http://shop-web-1:3000/x; }", ONCE),
    "in capitals": ("location / { proxy_pass http://Web:3000/x; }", ONCE),
    "with a variable behind it": (f"{RESOLVER}location / {{ proxy_pass http://web:3000$request_uri; }}", AGAIN),
    "with the scheme in a variable": (f"{RESOLVER}location / {{ proxy_pass $scheme://web:3000; }}", AGAIN),
    "as a URL in a variable": (f'{RESOLVER}set $to "http://web:3000"; location / {{ proxy_pass $to; }}', AGAIN),
    "in a variable of a variable": (
        f"{RESOLVER}set $name web; set $to ${{name}}:3000; location / {{ proxy_pass http://$to; }}",
        AGAIN,
    ),
    "as a value of a map": (
        f"{RESOLVER}map $host $app {{ default web; a.example.org api; }} location / {{ proxy_pass http://$app:3000; }}",
        AGAIN,
    ),
    "in a map that leads nowhere": ("map $host $kind { default web; } log_format x $kind;", None),
    "asked rarely": (ASKED.replace("valid=1s", "valid=1h"), RARELY),
    "asked as rarely as Docker says": (ASKED.replace(" valid=1s", " ipv6=off"), RARELY),
    "asked every 10 s": (ASKED.replace("valid=1s", "valid=10s"), RARELY),
    "in a comment": (f"# server web:3000;\n{ASKED}", AGAIN),
    "in a comment alone": ("location / { # proxy_pass http://web:3000;\n proxy_pass http://other; }", None),
    "behind a sign that begins no comment": ("location /a#b { proxy_pass http://web:3000; }", ONCE),
    "another service": ("location / { proxy_pass http://website:3000; }\nserver_name web;", None),
    "a name that only looks like it": ("location / { proxy_pass http://webXmin:3000; }", None),
    "part of a path": (STATIC, None),
    "part of a path, beside another service": (f"{STATIC}location / {{ proxy_pass http://other:3000/web/; }}", None),
    "a server's name": ("server { listen 80; server_name web web:3000; location / { return 204; } }", None),
    "an upstream's name, of a socket": (
        "upstream web { server unix:///srv/tmp/puma.sock; } location / { proxy_pass http://web; }",
        None,
    ),
    "an upstream's name, in a variable": (
        "upstream web { server 10.0.0.1; } split_clients $time $to { * web; } location / { proxy_pass http://$to; }",
        None,
    ),
    "a header and a log": (
        "access_log /var/log/web/access.log; location / { proxy_set_header Host web; add_header X http://web:3000; }",
        None,
    ),
    "a name in Lua": ("location / { content_by_lua_block { ngx.say('http://web:3000') } }", None),
    "a port in braces": ('location ~ "^/[a-z]{2}/" { proxy_pass http://web:3000; }', ONCE),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_what_an_nginx_does_with_a_name_is_read_from_its_configuration(case: str) -> None:
    configuration, lookups = CONFIGURATIONS[case]
    assert lookups_of(configuration, ["web", "shop-web-1", "web.min"]) == lookups


REDIRECTS = "server { listen 80 default_server; listen [::]:80; server_name _; return 301 https://$host; }\n"
NAMED = "server_name *.example.org shop.example.org;"
PASSES = "location / { proxy_pass http://web:3000; }"


@pytest.mark.parametrize(
    ("configuration", "doors"),
    [
        (LITERAL, [Door(80, "")]),
        (ASKED, [Door(80, "")]),
        (STATIC, []),
        (f"{REDIRECTS}server {{ listen 443 ssl; listen 8080; {NAMED} {PASSES} }}", [Door(8080, "shop.example.org")]),
        (
            f"server {{ listen 127.0.0.1:81; listen unix:/run/x; listen [::]; server_name ~^x$; {PASSES} }}",
            [Door(80, "")],
        ),
    ],
)
def test_where_an_nginx_listens_for_a_service_is_read_from_its_configuration(
    configuration: str, doors: list[Door]
) -> None:
    assert doors_of(configuration, ["web"]) == doors


@pytest.mark.parametrize(
    ("title", "command"),
    [
        ("nginx", ["nginx"]),
        ("nginx -g daemon off;", ["nginx", "-g", "daemon off;"]),
        (
            "/usr/sbin/nginx -c /etc/x.conf -g daemon off; pid /p;",
            ["/usr/sbin/nginx", "-c", "/etc/x.conf", "-g", "daemon off; pid /p;"],
        ),
        ("nginx -gdaemon off; -p /srv/ -q", ["nginx", "-gdaemon off;", "-p", "/srv/", "-q"]),
    ],
)
def test_how_an_nginx_was_started_is_what_its_first_process_calls_itself(title: str, command: list[str]) -> None:
    assert command_of(f"nginx: master process {title}") == command
