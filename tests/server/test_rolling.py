"""The strategy rolling: the new container beside the old one, the proxy that must see it, and the old one's end."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

import pytest

from server import sockets
from server.request import Assets, Check, Database, Migrations, Strategy
from tests.server.http_server import Asked, Pieces, response
from tests.server.server import DIGEST, IMAGE, MakeServer, Result, Server, compiling, side_by_side
from tests.server.test_staged import MIGRATE, PENDING, WRITES, history

OLD, NEW, AGAIN, PROXY = "old-container", "new-container", "old-release-again", "proxy-container"
ADDRESS = {OLD: "127.0.0.2", NEW: "127.0.0.3", AGAIN: "127.0.0.4"}
ADDRESSES = ("127.0.0.1", *ADDRESS.values())
LIMIT = 9
ASSETS = compiling("/app/public/packs")

# Containers of the first service by a file that lists them, as Docker would; and an nginx in the same network.
CONTAINERS = f"""
web="$STUBS/web"
worker="$STUBS/worker"
[ -e "$web" ] || {{ echo {OLD} >"$web"; echo old-worker >"$worker"; }}
listed_as() {{ cat "$STUBS/state-of-$1" 2>/dev/null || listed_state "$1"; }}
containers() {{
    while read -r id; do echo "web $(listed_as "$id") $id"; done <"$web"
    while read -r id; do echo "worker $(listed_as "$id") $id"; done <"$worker"
}}
make() {{ # FILE CONTAINER
    echo "$2" >>"$1"
    note_created "$2"
}}
name_of() {{ echo "$1"; }}
service_of() {{ case $1 in *worker*) echo worker ;; *) echo web ;; esac; }}
image_of() {{ case $1 in {OLD} | old-worker | {AGAIN}) answer running sha256:wanted ;; *) echo sha256:wanted ;; esac; }}
state_of() {{
    case $1 in
        *worker*) echo "$(listed_as "$1") 0 today $(image_of "$1") 0" ;;
        *) answer state "$(listed_as "$1") 0 today $(image_of "$1") 0" ;;
    esac
}}
networks_of() {{
    case $1 in
        {OLD}) at={ADDRESS[OLD]} ;; {NEW}) at={ADDRESS[NEW]} ;; {AGAIN}) at={ADDRESS[AGAIN]} ;; *) at=127.0.0.1 ;;
    esac
    echo "shop_default $at web shop-web-1"
}}
case "$*" in
    *-compile*) touch .releve/staging/0/app.js ;;
    'ps -q --no-trunc') cat "$web"; echo {PROXY}; exit ;;
    'compose create '*--remove-orphans) [ -s "$worker" ] || make "$worker" new-worker1; exit ;;
    'compose create '*worker*) echo >>"$STUBS/made"; make "$worker" "new-worker$(wc -l <"$STUBS/made")"; exit ;;
    'compose create '*)
        if grep -qx {NEW} "$web"; then make "$web" {AGAIN}; else make "$web" {NEW}; fi
        exit
        ;;
    'rm '*worker*) for word; do sed -i "/^$word\\$/d" "$worker"; done; exit ;; # side by side with the next
    'rm '*) for word; do sed -i "/^$word\\$/d" "$web"; done; exit ;;
    'ps '*'.Networks'*)
        printf '%s|,%s,|%s|%s\\n' {OLD} shop_default shop-web-1 shop cache shop_default cache shop \\
            other other_default other x {PROXY} front,shop_default {PROXY} front
        exit
        ;;
    'exec '*' nginx -T') cat "$STUBS/nginx.conf" 2>/dev/null; exit ;;
    'exec '*' -s reload') echo reloaded >>"$STUBS/reloads"; exit ;;
    'top cache '*) printf '7 redis-server *:6379\\n'; exit ;;
    'top '*'pid,args')
        printf '  8 nginx: master process %s\\n' "$(cat "$STUBS/title" 2>/dev/null || echo nginx)"
        echo "$(wc -l <"$STUBS/reloads" 2>/dev/null || echo 0) nginx: worker process"
        exit
        ;;
    'top '*) printf 'PID RSS\\n1 1000\\n'; exit ;;
    'run '*' releve-iptables:'*) # in the network of another container, with this server's own commands
        for word; do case $word in container:*) export NETWORK="${{word#container:}}" ;; esac; done
        while [ "$1" != sh ]; do shift; done
        exec "$@"
        ;;
esac
"""

IPTABLES = """#!/bin/sh
# Stands for iptables in one network, whose chain RELEVE is a file.
# ends-early: what sets the rules ends instead of taking them away.
chain="$STUBS/chain-$NETWORK"
note() { printf 'docker\\037%s\\037%s\\037\\036' "$1" "$2" >>"$STUBS/record"; }
case "$*" in
    *'-N RELEVE') [ ! -e "$chain" ] && touch "$chain" ;;
    *'-A RELEVE '*192.0.2.1*) ;;
    *'-A RELEVE '*) note refused "$9" && echo "$9" >>"$chain" ;;
    *'-F RELEVE')
        if [ -s "$chain" ] && rm "$STUBS/ends-early" 2>/dev/null; then kill -9 $PPID; fi
        [ -e "$chain" ]
        ;;
    *'-X RELEVE')
        [ ! -s "$chain" ] || note accepted "$NETWORK"
        [ ! -s "$chain" ] || [ ! -e "$STUBS/when-accepted" ] || . "$STUBS/when-accepted"
        rm "$chain"
        ;;
esac
"""

ASKED = "resolver 127.0.0.11 valid=1s;\nserver {\n  location / { set $app web; proxy_pass http://$app:3000; }\n}\n"
LITERAL = "upstream app {\n  server web:3000;\n}\nserver { location / { proxy_pass http://app; } }\n"


def run(server: Server, step: str, *, settle: int = 0, limits: dict[str, int] | None = None, **fields: Any) -> Result:
    request = server.request(step, timeout=LIMIT)
    given = {
        "strategy": Strategy.ROLLING,
        "assets": ASSETS,
        "health": server.health(settle=settle),
        "limits": {**request.limits, **(limits or {})},
    }
    return server.run(step, **{**given, **fields})


def prepare(server: Server, configuration: str = ASKED, behaviour: str = CONTAINERS) -> Server:
    """Everything up to `up`."""
    server.behave(behaviour)
    for name in ("iptables", "ip6tables"):
        server.write_command(name, IPTABLES)
    (server.stubs / "nginx.conf").write_text(configuration)
    for step in ("pull", "precompile"):
        result = run(server, step)
        assert result.status == 0, result
    server.forget_calls()
    return server


@pytest.fixture
def server(new_server: MakeServer) -> Server:
    return new_server(addresses=ADDRESSES)


@pytest.fixture
def prepared(server: Server) -> Server:
    return prepare(server)


def slowly(server: Server) -> Server:
    """The application took its time to start, the last time."""
    (server.state / "boot").write_text("150\n")
    return server


def events(server: Server) -> list[str]:
    """What was done to containers, in short."""
    short = []
    for call in server.docker_calls():
        match call:
            case ["compose", "create", *rest]:
                short.append(f"create {rest[-1]}")
            case ["compose", *_] if "--name" in call and "run" in call:
                short.append(call[call.index("--name") + 1].rpartition("-")[2])
            case ["compose", "up" | "stop" | "rm" as verb, *rest]:
                short.append(f"{verb} {rest[-1]}")
            case ["run", *_] if "-rules-" in call[call.index("--name") + 1]:
                short.append(f"rules in {call[call.index('--network') + 1]}")
            case ["run", *_] if "--name" in call:
                short.append(call[call.index("--name") + 1].rpartition("-")[2])
            case ["start" | "stop" | "refused" | "accepted" as verb, *rest] | ["rm" as verb, *rest] if rest[0] != "-f":
                short.append(f"{verb} {' '.join(rest)}")
            case ["exec", container, *rest] if rest[-1] != "-T":
                short.append(f"{' '.join(rest)} in {container}")
    return short


def kill(server: Server) -> str:
    """In sh: ends the program with -9."""
    return f'pkill -9 -f "{server.program} up"'


def kill_at(server: Server, pattern: str) -> None:
    """A run that is killed with -9 at a docker command, as if nobody had seen what it did."""
    server.behave(f'case "$*" in {pattern}) {kill(server)} ;; esac\n{CONTAINERS}')
    assert run(server, "up").status != 0
    server.behave(CONTAINERS)
    server.forget_calls()


def in_order(server: Server, *expected: str) -> bool:
    """Whether these were done one after the other, whatever else was done between them or beside them."""
    done = iter(events(server))
    return all(event in done for event in expected)


RELOADED = f"nginx -s reload in {PROXY}"
RULES = f"rules in container:{PROXY}"
SHUT_OUT = f"refused {ADDRESS[NEW]}"
REFUSED = f"refused {ADDRESS[OLD]}"
ACCEPTED = f"accepted {PROXY}"


def test_the_old_container_stops_when_the_new_one_serves_and_no_proxy_connects_to_it(prepared: Server) -> None:
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, "publish", "trial", f"start {NEW}", SHUT_OUT, RELOADED, ACCEPTED, REFUSED, f"stop {OLD}")
    assert in_order(prepared, f"stop {OLD}", f"rm {OLD}", "create --remove-orphans")
    assert in_order(prepared, f"stop {OLD}", RELOADED, ACCEPTED)
    assert events(prepared).count(RELOADED) == 2
    create, _ = prepared.docker_calls("compose", "create")
    assert create == ["compose", "create", "--no-recreate", "--scale=web=2", "web"]
    assert IMAGE in prepared.compose_file.read_text()
    assert history(prepared)[-1]["result"] == "released"


ONE_SHOT = """\
name: shop
services:
  nginx:
    image: nginx:1
  web:
    image: app:1.0
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate:
    image: app:1.0
"""


def test_one_shots_have_ended_before_the_new_container_is_made(server: Server) -> None:
    server.compose_file.write_text(ONE_SHOT)
    behaviour = CONTAINERS.replace("containers() {", 'containers() {\n    echo "migrate exited migrate"').replace(
        '        *worker*) echo "$(listed',
        '        migrate) echo exited 0 today x 0 ;;\n        *worker*) echo "$(listed',
    )
    prepare(server, behaviour=behaviour)
    result = run(server, "up", database=Database(pending=("true",)))
    assert result.status == 0, result
    assert in_order(server, "pending", "rm migrate", "start migrate", "create web", f"start {NEW}", f"stop {OLD}")
    assert events(server).count("start migrate") == 1


def test_an_nginx_that_looks_the_name_up_once_gives_up_what_it_keeps_open_and_needs_no_trial(server: Server) -> None:
    prepare(server, LITERAL)
    result = run(server, "up")
    assert result.status == 0, result
    assert "trial" not in events(server)
    assert in_order(server, f"start {NEW}", RELOADED, REFUSED, RELOADED, f"stop {OLD}", RELOADED, ACCEPTED)


def test_an_application_that_starts_slowly_is_shut_out_instead_of_tried(prepared: Server) -> None:
    result = run(slowly(prepared), "up")
    assert result.status == 0, result
    assert "trial" not in events(prepared)
    assert in_order(prepared, RULES, f"start {NEW}", SHUT_OUT, RELOADED, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)
    assert events(prepared).count(RULES) == 1


def test_what_sets_the_rules_has_nothing_of_the_image_under_release_nor_of_the_server(prepared: Server) -> None:
    assert run(prepared, "up").status == 0
    able = [call for call in prepared.docker_calls("run") if "NET_ADMIN" in call]
    assert able, "nobody sets rules"
    for call in able:
        assert not any(DIGEST in word or "shop/app" in word for word in call)
        assert not {"-v", "--volume", "--mount", "--privileged", "--volumes-from"} & set(call)
        assert call[call.index("--cap-drop") + 1] == "ALL"
    mounted = [word for call in prepared.docker_calls("run") for word in call if word.startswith("type=")]
    assert not any('"source=/"' in word or f'"source={prepared.state}"' in word for word in mounted)


def test_the_new_container_is_asked_for_its_page_before_a_visitor_can(prepared: Server) -> None:
    health = prepared.health(url=f"{prepared.public.url}/book/")
    result = run(prepared, "up", health=health)
    assert result.status == 0, result
    calls = prepared.calls()
    asked = ["http", "application", "GET", "/book/", ADDRESS[NEW]]
    assert calls.count(asked) == 1
    assert calls.index(["docker", *SHUT_OUT.split()]) < calls.index(asked) < calls.index(["docker", *ACCEPTED.split()])
    (it,) = [it for it in prepared.application.asked if it.target == "/book/"]
    assert it.headers["x-forwarded-proto"] == "http"


def answers_only_at(*addresses: str) -> Any:
    """An application whose other containers have an error."""

    def answer(asked: Asked) -> Pieces:
        return response() if asked.address in addresses else response(500, "no", reason="Internal Server Error")

    return answer


def test_a_release_that_is_not_healthy_is_shut_out_until_it_is_removed_and_the_proxy_told(prepared: Server) -> None:
    slowly(prepared).answer("running", "sha256:old")
    prepared.application.answer = answers_only_at(ADDRESS[OLD])
    result = run(prepared, "up", limits={"gate": 1})
    assert result.status == 1, result
    assert "answers 500, not 200" in result.errors
    assert (prepared.stubs / "web").read_text() == f"{OLD}\n"
    calls = prepared.docker_calls()
    shut_out, removed, accepted = (
        calls.index(call) for call in (SHUT_OUT.split(), ["rm", "-f", NEW], ACCEPTED.split())
    )
    assert shut_out < removed < accepted
    assert prepared.docker_calls("exec", PROXY)[-1][-1] == "reload"


NO_IPTABLES = 'case "$*" in "image inspect "*releve-iptables*) exit 1 ;; "import "*) cat >/dev/null; exit 1 ;; esac\n'


def test_where_the_server_has_no_iptables_the_release_is_tried_and_the_risk_is_named(prepared: Server) -> None:
    slowly(prepared).behave(NO_IPTABLES + CONTAINERS)
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "iptables cannot keep proxy-container from the old container of 'web'" in result.output
    assert in_order(prepared, "publish", "trial", f"start {NEW}", f"stop {OLD}", RELOADED)
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_where_its_rules_are_not_taken_the_release_is_tried_and_the_risk_is_named(prepared: Server) -> None:
    slowly(prepared).write_command("iptables", "#!/bin/sh\nexit 4\n")
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "iptables cannot keep proxy-container from the old container of 'web'" in result.output
    assert in_order(prepared, RULES, "trial", f"start {NEW}", f"stop {OLD}", RELOADED)


def test_the_image_with_the_servers_iptables_is_made_where_it_is_not_there(prepared: Server) -> None:
    there = 'case "$*" in "image inspect "*releve-iptables*) [ -e "$STUBS/imported" ] || exit 1 ;;'
    there += ' "import "*) cat >"$STUBS/imported"; exit ;; esac\n'
    prepared.behave(there + CONTAINERS)
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, RULES, REFUSED, f"stop {OLD}")
    assert len(prepared.docker_calls("import")) == 1
    assert (prepared.stubs / "imported").stat().st_size > 0


def test_connections_that_a_killed_run_has_left_refused_are_accepted_first(prepared: Server) -> None:
    kill_at(prepared, f'"stop {OLD}"')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, RULES, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)


def test_connections_are_accepted_again_also_when_what_sets_the_rules_has_ended(prepared: Server) -> None:
    (prepared.stubs / "ends-early").touch()
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, RULES, SHUT_OUT, RULES, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)


def test_a_container_that_ends_before_its_connections_are_accepted_again_does_no_harm(prepared: Server) -> None:
    kill_at(prepared, f'"stop {OLD}"')
    gone = f'"ps -q --no-trunc") echo {PROXY}; exit ;; "run "*"container:{PROXY} "*) exit 1'
    prepared.behave(f'case "$*" in {gone} ;; esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 0, result


def test_a_container_that_was_just_let_in_when_the_run_was_killed_stays(prepared: Server) -> None:
    (prepared.stubs / "when-accepted").write_text(f"{kill(prepared)}\n")
    assert run(prepared, "up").status != 0
    (prepared.stubs / "when-accepted").unlink()
    result = run(prepared, "up")
    assert result.status == 0, result
    assert ["rm", "-f", NEW] not in prepared.docker_calls()
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_what_sets_the_rules_ends_with_a_killed_run_and_keeps_nothing_from_the_next(prepared: Server) -> None:
    kill_at(prepared, f'"exec {PROXY} "*reload')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "waiting for a docker command" not in result.output


def test_each_of_two_proxies_has_its_rules_and_the_assets_are_published_once(prepared: Server) -> None:
    both = f"""'ps '*'.Networks'*)
        for proxy in {PROXY} second-proxy; do printf '%s|,%s,|%s|\\n' "$proxy" shop_default "$proxy"; done
        exit
        ;;"""
    prepared.behave(f'case "$*" in {both} esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 0, result
    done = events(prepared)
    assert done.count("publish") == 1
    for event in (RULES, "rules in container:second-proxy", ACCEPTED, "accepted second-proxy"):
        assert event in done, event
    assert (done.count(SHUT_OUT), done.count(REFUSED)) == (2, 2)


def test_a_container_that_a_killed_run_has_shut_out_goes_before_it_is_let_in(prepared: Server) -> None:
    kill_at(slowly(prepared), f'"exec {PROXY} "*reload')
    result = run(prepared, "up")
    assert result.status == 0, result
    calls = prepared.docker_calls()
    assert calls.index(["rm", "-f", NEW]) < calls.index(ACCEPTED.split())
    assert in_order(prepared, ACCEPTED, f"start {NEW}", f"stop {OLD}")


CONFIGURATIONS = {
    "asked every second": (ASKED, "asks"),
    "asked rarely": (ASKED.replace("valid=1s", "valid=1h"), "asks"),
    "in an upstream": (LITERAL, "once-keeps"),
    "in an upstream that resolves": (
        LITERAL.replace("3000;", "3000 resolve;") + ASKED.partition("server")[0],
        "asks-keeps",
    ),
    "in both ways": (ASKED + LITERAL, "asks-keeps"),
    "in proxy_pass": ("location / { proxy_pass http://web:3000; }\n", "once-keeps"),
    "by the container's name": ("location / { proxy_pass http://shop-web-1:3000/x; }\n", "once-keeps"),
    "in a comment": (f"# server web:3000;\n{ASKED}", "asks"),
    "another service": ("location / { proxy_pass http://website:3000; }\nserver_name web;\n", ""),
}
"""nginx's configuration → when it looks the name up, and whether it keeps connections open."""


def test_what_an_nginx_does_with_the_name_of_the_service_is_read_from_its_configuration(
    new_server: MakeServer,
) -> None:
    servers = {case: new_server(addresses=ADDRESSES) for case in CONFIGURATIONS}

    def outcome(case: str) -> Result:
        return run(prepare(servers[case], CONFIGURATIONS[case][0]), "up")

    for case, result in side_by_side(outcome, CONFIGURATIONS).items():
        kind = CONFIGURATIONS[case][1]
        assert result.status == 0, (case, result)
        assert ("no nginx was found" in result.output) == (not kind), case
        assert ("trial" in events(servers[case])) == (not kind or kind.startswith("asks")), case
        assert events(servers[case]).count(RELOADED) == {"asks": 2, "": 0}.get(kind, 3), case


QUIET = ("kill", "-TSTP", "1")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*-trial*", "No container of 'web' can be started"),
        ('"compose create"*', "A new container of 'web' cannot be made"),
        (f'"start {NEW}"', "The new container of 'web' cannot be started"),
        ('"stop old-worker"', "worker cannot be stopped"),
        ('*"kill -TSTP 1"', "cannot be told to take no more work"),
    ],
)
def test_whatever_fails_before_the_old_container_stops_it_is_left_alone(
    server: Server, pattern: str, message: str
) -> None:
    server.add_worker()
    server.answer("running", "sha256:old")
    prepare(server)
    before = server.compose_file.read_bytes()
    once = f'case "$*" in {pattern}) if [ ! -e "$STUBS/once" ]; then touch "$STUBS/once"; exit 1; fi ;; esac'
    server.behave(f"{once}\n{CONTAINERS}")
    result = run(server, "up", worker_quiet=QUIET, settle=1)
    assert result.status == 1, result
    assert message in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert server.compose_file.read_bytes() == before
    assert (server.stubs / "web").read_text() == f"{OLD}\n"
    assert f"stop {OLD}" not in events(server)
    assert history(server)[-1]["result"] == "restored"


def test_where_nothing_is_watched_a_worker_that_does_not_stop_brings_the_old_release_back_beside_the_new(
    server: Server,
) -> None:
    server.add_worker()
    server.answer("running", "sha256:old")
    prepare(server)
    server.behave(f'case "$*" in "stop old-worker") exit 1 ;; esac\n{CONTAINERS}')
    result = run(server, "up")
    assert result.status == 1, result
    assert "worker cannot be stopped" in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    # Whatever has stopped before, the new container goes only when the old release serves again.
    assert in_order(server, f"stop {OLD}", f"start {AGAIN}", f"stop {NEW}")
    assert (server.stubs / "web").read_text() == f"{AGAIN}\n"
    assert history(server)[-1]["result"] == "restored"


def test_an_nginx_that_does_not_accept_its_configuration_is_named_before_anything_changes(prepared: Server) -> None:
    before = prepared.compose_file.read_bytes()
    prepared.behave(f'case "$*" in *"nginx -T") exit 1 ;; esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 1, result
    assert f"The configuration of {PROXY} is not accepted (nginx -T)" in result.errors
    assert "ended unexpectedly" not in result.errors
    assert prepared.compose_file.read_bytes() == before
    assert events(prepared) == []
    assert history(prepared)[-1]["result"] == "failed"


def test_a_container_of_whomever_that_ends_while_proxies_are_looked_for_does_no_harm(prepared: Server) -> None:
    ended = f'"ps -q --no-trunc") echo {OLD}; echo {PROXY}; echo ended; exit ;; "inspect "*" ended"*) exit 1'
    prepared.behave(f'case "$*" in {ended} ;; esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert f"reloaded {PROXY}" in result.output


@pytest.mark.parametrize("settle", [0, 1])
def test_workers_are_told_to_take_no_more_work_and_never_run_twice(server: Server, settle: int) -> None:
    server.add_worker()
    prepare(server)
    result = run(server, "up", worker_quiet=QUIET, settle=settle)
    assert result.status == 0, result
    assert in_order(
        server, f"start {NEW}", "kill -TSTP 1 in old-worker", "stop old-worker", "rm old-worker", "start new-worker1"
    )
    # The new one is made while the old one ends: what is stopped is counted, what is removed is not.
    assert in_order(server, f"start {NEW}", "create worker", "rm old-worker")
    assert ["compose", "create", "--no-recreate", "--scale=worker=2", "worker"] in server.docker_calls()
    # Compose would remove one of two.
    assert in_order(server, "rm old-worker", "create --remove-orphans")
    if settle:
        # A worker that does not start costs the old container nothing.
        assert in_order(server, "create worker", "start new-worker1", f"stop {OLD}")


def test_a_worker_of_which_there_can_be_only_one_is_made_when_the_old_one_is_gone(server: Server) -> None:
    server.add_worker()
    prepare(server)
    server.behave(f'case "$*" in *--scale=worker=2*) exit 1 ;; esac\n{CONTAINERS}')
    result = run(server, "up")
    assert result.status == 0, result
    assert in_order(server, "rm old-worker", "create worker", "start new-worker1")


@pytest.mark.parametrize("listed", [True, False])
def test_a_worker_that_a_killed_run_has_made_and_not_started_is_made_again(server: Server, *, listed: bool) -> None:
    server.add_worker()
    prepare(server)
    kill_at(server, '"start new-worker1"' if listed else '"rm old-worker"')
    (server.stubs / "state-of-new-worker1").write_text("created\n")
    result = run(server, "up", settle=1)
    assert result.status == 0, result
    assert in_order(server, "rm new-worker1", "create worker", "start new-worker2")


def test_a_worker_that_does_not_run_is_not_counted(server: Server) -> None:
    server.add_worker()
    prepare(server)
    (server.stubs / "worker").write_text("old-worker\nleft-worker\n")
    (server.stubs / "state-of-left-worker").write_text("created\n")
    result = run(server, "up")
    assert result.status == 0, result
    assert in_order(server, "rm left-worker", "create worker", "rm old-worker", "start new-worker1")
    # Two more would start, were there a scale of four.
    assert ["compose", "create", "--no-recreate", "--scale=worker=2", "worker"] in server.docker_calls()


def test_a_worker_that_is_started_again_and_again_is_stopped_before_it_is_removed(server: Server) -> None:
    server.add_worker()
    prepare(server)
    (server.stubs / "state-of-old-worker").write_text("restarting\n")
    server.behave(f'case "$*" in "exec old-worker "*) exit 1 ;; esac\n{CONTAINERS}')
    result = run(server, "up", worker_quiet=("quiet",))
    assert result.status == 0, result
    assert in_order(server, "stop old-worker", "rm old-worker", "start new-worker1")


def test_the_worker_of_a_failed_release_goes_also_when_it_does_not_take_the_word(server: Server) -> None:
    server.add_worker()
    server.answer("running", "sha256:old")
    prepare(server)
    fails = f'"stop {OLD}" | "exec new-worker1 "*'
    server.behave(f'case "$*" in {fails}) exit 1 ;; esac\n{CONTAINERS}')
    result = run(server, "up", worker_quiet=("quiet",), settle=1)
    assert result.status == 1, result
    assert "new-worker1 cannot be told to take no more work" in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert in_order(server, f"stop {OLD}", "stop new-worker1", "rm new-worker1")


def test_a_killed_run_is_gone_on_with_and_its_container_is_not_made_twice(prepared: Server) -> None:
    kill_at(prepared, f'"start {NEW}"')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "create web" not in events(prepared)
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_pending_migrations_are_refused_unless_the_old_release_can_work_with_them(prepared: Server) -> None:
    prepared.behave(f"{PENDING.removeprefix(WRITES)}\n{CONTAINERS}")
    before = prepared.compose_file.read_bytes()
    refused = run(prepared, "up", database=MIGRATE)
    assert refused.status == 1
    assert "set app.migrations: compatible" in refused.errors
    assert prepared.compose_file.read_bytes() == before
    done = run(prepared, "up", database=dataclasses.replace(MIGRATE, migrations=Migrations.COMPATIBLE))
    assert done.status == 0, done
    order = events(prepared)
    assert order.index("migrate") < order.index("create web")


OBSTACLES = {
    "    container_name: shop\n": "it has a container_name",
    "    ports:\n      - mode: ingress\n        target: 3000\n": "it publishes a port",
    "    network_mode: host\n": "it has the network_mode host",
    "    deploy:\n      replicas: 2\n": "it has a number of replicas of its own",
    "    scale: 2\n": "it has a number of replicas of its own",
    "    networks:\n      default:\n        ipv4_address: 10.0.0.9\n": "it has a fixed address",
    "  nginx:\n    image: nginx:1\n    volumes_from:\n      - web:ro\n": "nginx will be recreated, too: volumes_from",
}


def test_what_cannot_run_twice_is_refused_before_anything_is_pulled(new_server: MakeServer) -> None:
    servers = {}
    for obstacle in OBSTACLES:
        servers[obstacle] = new_server()
        text = f"name: shop\nservices:\n  web:\n    image: registry.example:5000/shop/app:1.0\n{obstacle}"
        servers[obstacle].compose_file.write_text(text)
        servers[obstacle].behave(CONTAINERS)
    for obstacle, result in side_by_side(lambda case: run(servers[case], "pull"), OBSTACLES).items():
        assert result.status == 1, (obstacle, result)
        assert f"'web' cannot be rolled: {OBSTACLES[obstacle]}" in result.errors
        assert "set app.strategy: staged" in result.errors
        assert servers[obstacle].docker_calls("pull") == []


def test_without_memory_for_a_second_container_nothing_begins(server: Server) -> None:
    server.behave(f"case \"$*\" in 'top '*) printf 'PID RSS\\n1 999999999999\\n'; exit ;; esac\n{CONTAINERS}")
    result = run(server, "pull")
    assert result.status == 1
    assert "a second container needs about" in result.errors


def test_a_release_that_has_served_here_is_not_tried_again(prepared: Server) -> None:
    name = f"2.0-{DIGEST.removeprefix('sha256:')[:12]}"
    assert run(prepared, "up").status == 0
    assert "trial" in events(prepared)
    prepared.forget_calls()
    # As if another one had served meanwhile.
    (prepared.stubs / "web").write_text(f"{OLD}\n")
    assert (prepared.state / "releases" / name).exists()
    assert run(prepared, "up").status == 0
    assert "trial" not in events(prepared)
    assert "create web" in events(prepared)


def test_without_assets_nothing_is_published(prepared: Server) -> None:
    assert run(prepared, "pull", assets=Assets()).status == 0
    assert run(prepared, "up", assets=Assets()).status == 0
    assert "publish" not in events(prepared)


def test_a_connection_that_the_application_has_not_accepted_is_seen_as_long_as_it_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        assert sockets.someone_listens(os.getpid(), address[1])
        assert not sockets.someone_waits(os.getpid(), address[1])
        with socket.create_connection(address):
            assert sockets.someone_waits(os.getpid(), address[1])
            accepted, _ = listener.accept()
            with accepted:
                assert not sockets.someone_waits(os.getpid(), address[1])
                assert sockets.someone_is_connected(os.getpid(), address[1])
    assert not sockets.someone_listens(os.getpid(), address[1])


def test_a_page_that_costs_something_is_asked_for_once_before_the_proxies_reach_the_new_container(
    prepared: Server,
) -> None:
    chain = prepared.stubs / f"chain-{PROXY}"
    shut_out: list[bool] = []

    def answer(it: Asked) -> Pieces:
        if it.target == "/status":
            shut_out.append(ADDRESS[NEW] in chain.read_text())
        return response(200, "well")

    prepared.application.answer = answer
    result = run(slowly(prepared), "up", health=prepared.health(settle=1, checks=(Check("/status", 200),)))
    assert result.status == 0, result
    assert shut_out == [True]
