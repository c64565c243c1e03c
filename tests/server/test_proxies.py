"""The strategies that stop the web service: an nginx that looks its name up once is told where it is now."""

from __future__ import annotations

from server.request import Strategy
from tests.server.http_server import Asked, Pieces, response
from tests.server.server import MakeServer, Result, Server, side_by_side
from tests.server.test_rolling import ASKED, LITERAL
from tests.server.test_staged import WRITES, history, prepare, run

# An nginx in the web service's network, whose image and command do not tell what it is.
NGINX = """
case "$*" in
    'ps '*'.Networks'*)
        printf '%s|,shop_default,|%s|%s\\n' web shop-web-1 shop edge edge-1 shop
        exit
        ;;
    'exec edge '*' -T')
        cat "$STUBS/nginx.conf"
        exit
        ;;
    'exec edge '*' -s reload') echo reloaded >>"$STUBS/reloads"; exit ;;
    'top edge '*)
        printf '    8 nginx: master process %s\\n' "$(cat "$STUBS/title" 2>/dev/null || echo nginx)"
        echo "    $(wc -l <"$STUBS/reloads" 2>/dev/null || echo 0) nginx: worker process"
        exit
        ;;
esac
"""


def behind(server: Server, configuration: str, more: str = "") -> Server:
    """Everything up to `up`, behind an nginx with this configuration."""
    server.answer("running", "sha256:old")
    prepare(server)
    (server.stubs / "nginx.conf").write_text(configuration)
    server.behave(f"{more}\n{WRITES}\n{NGINX}")
    server.forget_calls()
    return server


def done(server: Server) -> list[str]:
    """What was done to the containers of the web service and to nginx."""
    short = []
    for call in server.docker_calls():
        if call[:1] == ["exec"] and call[-1] == "reload":
            short.append(f"reload {call[1]}")
        elif call[0] == "start":
            short.append("start")
    return short


REFUSED = 'case "$*" in "exec edge "*" -T") echo "host not found in upstream" >&2; exit 1 ;; esac'
CONFIGURATIONS = {
    "looks it up once": (LITERAL, 1),
    "asks every second": (ASKED, 0),
    "asks every hour": (ASKED.replace("valid=1s", "valid=1h"), 1),
    "passes nothing to it": ("server { root /usr/src/web/public; }", 0),
}


def test_an_nginx_is_told_of_new_containers_where_it_does_not_ask_for_them_soon(new_server: MakeServer) -> None:
    servers = {case: behind(new_server(), configuration) for case, (configuration, _) in CONFIGURATIONS.items()}
    for case, result in side_by_side(lambda case: run(servers[case], "up"), CONFIGURATIONS).items():
        assert result.status == 0, (case, result)
        assert done(servers[case]) == ["start", *["reload edge"] * CONFIGURATIONS[case][1]], case
        assert "no nginx was found" not in result.output


def test_an_nginx_is_told_of_the_old_containers_when_they_are_back(server: Server) -> None:
    behind(server, LITERAL)

    def answer(asked: Asked) -> Pieces:
        is_new = "@sha256:777" in server.compose_file.read_text()
        return response(500, "no", reason="Oops") if is_new and asked.target == "/health" else response()

    server.application.answer = answer
    result = run(server, "up", timeout=2)
    assert result.status == 1, result
    assert history(server)[-1]["result"] == "restored"
    assert done(server)[-2:] == ["start", "reload edge"]


def test_an_nginx_is_asked_with_the_words_that_it_was_started_with(server: Server) -> None:
    behind(server, LITERAL)
    (server.stubs / "title").write_text("/usr/sbin/nginx -c /etc/nginx/edge.conf -g daemon off; pid /tmp/pid;")
    assert run(server, "up").status == 0
    words = ["exec", "edge", "/usr/sbin/nginx", "-c", "/etc/nginx/edge.conf", "-g", "daemon off; pid /tmp/pid;"]
    assert server.docker_calls("exec", "edge") == [[*words, "-T"], [*words, "-s", "reload"]]


def test_a_configuration_that_is_not_accepted_is_named_before_anything_is_stopped(server: Server) -> None:
    behind(server, LITERAL, REFUSED)
    before = server.compose_file.read_bytes()
    result = run(server, "up")
    assert result.status == 1, result
    assert "The configuration of edge-1 is not accepted (nginx -T)" in result.errors
    assert "host not found in upstream" in result.errors
    assert server.compose_file.read_bytes() == before
    assert done(server) == []


def test_that_of_another_project_keeps_no_release_from_being_rolled_out(server: Server) -> None:
    behind(server, LITERAL, REFUSED)
    server.behave(f"{REFUSED}\n{WRITES}\n{NGINX.replace('edge-1 shop', 'edge-1 other')}")
    result = run(server, "up")
    assert result.status == 0, result
    assert "notice: The configuration of edge-1 is not accepted" in result.output


def test_an_nginx_that_was_made_anew_with_the_containers_need_not_be_told(server: Server) -> None:
    gone = 'case "$*" in "exec edge "*" -s reload") exit 1 ;; "ps -q --filter id=edge") exit ;; esac'
    behind(server, LITERAL, gone)
    result = run(server, "up")
    assert result.status == 0, result


def test_an_nginx_that_cannot_be_told_is_a_failure(server: Server) -> None:
    there = 'case "$*" in "exec edge "*" -s reload") exit 1 ;; "ps -q --filter id=edge") echo edge; exit ;; esac'
    behind(server, LITERAL, there)
    result = run(server, "up")
    assert result.status == 1, result
    assert "shop-edge-1 cannot be reloaded, and looks for 'web' where it was" in result.errors


def test_in_place_an_nginx_is_told_as_well(server: Server) -> None:
    for step in ("pull", "stop", "up"):
        assert server.run(step).status == 0
    (server.stubs / "nginx.conf").write_text(LITERAL)
    server.behave(NGINX)
    result: Result = server.run("verify", strategy=Strategy.IN_PLACE)
    assert result.status == 0, result
    assert done(server) == ["reload edge"]


def test_a_container_without_an_nginx_is_asked_nothing(server: Server) -> None:
    behind(server, LITERAL)
    server.behave(f'case "$*" in "top edge "*) echo "8 redis-server"; exit ;; esac\n{WRITES}\n{NGINX}')
    assert run(server, "up").status == 0
    assert server.docker_calls("exec", "edge") == []
