"""The strategy rolling: the new container beside the old one, the proxy that must see it, and the old one's end."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.shell.server import CURL, DIGEST, IMAGE, SCRIPT, Result, Server, side_by_side
from tests.shell.test_staged import COMMAND, GATE, LIMITS, MIGRATE, PENDING, WELL, history

OLD, NEW, AGAIN, PROXY = "old-container", "new-container", "old-release-again", "proxy-container"

# Containers of the first service by a file that lists them, as Docker would; and an nginx in the same network.
CONTAINERS = f"""
web="$STUBS/web"
worker="$STUBS/worker"
[ -e "$web" ] || {{ echo {OLD} >"$web"; echo old-worker >"$worker"; }}
case "$*" in
    *-compile*) touch .releve/staging/0/app.js ;;
    'ps -q --no-trunc') cat "$web"; echo {PROXY}; exit ;;
    'ps '*service=web*) cat "$web"; exit ;;
    'ps '*service=worker*) cat "$worker"; exit ;;
    *'status=created'*)
        if [ -e "$STUBS/created-worker" ]; then rm "$STUBS/created-worker"; echo new-worker1 worker; fi
        exit
        ;;
    'ps '*'{{{{.State}}}}'*)
        sed 's/^/web running /' "$web"
        while read -r id; do echo "worker $(cat "$STUBS/state-of-$id" 2>/dev/null || echo running) $id"; done <"$worker"
        exit
        ;;
    'compose create --remove-orphans')
        if [ ! -s "$worker" ]; then echo new-worker1 >"$worker"; touch "$STUBS/created-worker"; fi
        exit
        ;;
    'compose create '*worker*) echo >>"$STUBS/made"; echo "new-worker$(wc -l <"$STUBS/made")" >>"$worker"; exit ;;
    'compose create '*)
        if grep -qx {NEW} "$web"; then echo {AGAIN} >>"$web"; else echo {NEW} >>"$web"; fi
        exit
        ;;
    'rm '*worker*) for word; do sed -i "/^$word\\$/d" "$worker"; done; exit ;; # side by side with the next
    'rm '*) for word; do sed -i "/^$word\\$/d" "$web"; done; exit ;;
    'inspect '*'println "network"'*) printf 'network shop_default\\nname web\\nname shop-web-1\\n'; exit ;;
    'inspect '*GlobalIPv6Address*) shift 3; for word; do echo "address-of-$word"; done; exit ;;
    'inspect '*'slice .Name'*) echo "${{4}}"; exit ;;
    'ps '*'.Networks'*)
        printf '%s|,%s,|%s\\n' {OLD} shop_default '"puma" app' other other_default '"nginx" nginx:1' \\
            {PROXY} front,shop_default '"nginx -g daemon off;" nginx:1'
        exit
        ;;
    'exec '*' nginx -T') cat "$STUBS/nginx.conf" 2>/dev/null; exit ;;
    'exec '*' -s reload') echo reloaded >>"$STUBS/reloads"; exit ;;
    'top '*'pid,args') echo "$(wc -l <"$STUBS/reloads" 2>/dev/null || echo 0) ? nginx: worker process"; exit ;;
    'top '*) printf 'PID RSS\\n1 1000\\n'; exit ;;
    'run '*' chroot '*) # in the network of another container, with this server's own commands
        for word; do case $word in container:*) export NETWORK="${{word#container:}}" ;; esac; done
        case "$*" in
            *'--entrypoint chroot'*) while [ "$1" != /host ]; do shift; done ;;
            *) # it publishes first
                while [ "$1" != -c ]; do shift; done
                shift 2
                touch "$2/published"
                set -- host sh -c "$4" sh "$2" "$3"
                ;;
        esac
        shift
        exec "$@"
        ;;
esac
"""

IPTABLES = """#!/bin/sh
# Stands for iptables in one network, whose chain RELEVE is a file.
# ends-early: the guard ends instead of taking rules away.
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


def options() -> list[str]:
    parts = [word for part in LIMITS for word in ("--limit", f"{part}=9")]
    return ["--strategy", "rolling", "--asset", "/app/public/packs", *parts]


def run(server: Server, step: str, *more: str) -> Result:
    gate = GATE if step == "up" else ()
    return server.run(step, *options(), *gate, *more, command=() if step == "purge" else COMMAND)


def prepare(server: Server, configuration: str = ASKED) -> Server:
    """Everything up to `up`."""
    server.behave(CONTAINERS)
    for name in ("iptables", "ip6tables"):
        server.write_command(name, IPTABLES)
    (server.stubs / "nginx.conf").write_text(configuration)
    for step in ("pull", "precompile"):
        result = run(server, step)
        assert result.status == 0, result
    (server.stubs / "record").unlink()
    return server


@pytest.fixture
def prepared(server: Server) -> Server:
    return prepare(server)


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
            case ["run", *_] if "--network" in call and "-guard-" in call[call.index("--name") + 1]:
                short += ["publish"] * ("chroot" not in call) + [f"guard in {call[call.index('--network') + 1]}"]
            case ["run", *_] if "--name" in call:
                short.append(call[call.index("--name") + 1].rpartition("-")[2])
            case ["start" | "stop" | "refused" | "accepted" as verb, *rest] | ["rm" as verb, *rest] if rest[0] != "-f":
                short.append(f"{verb} {' '.join(rest)}")
            case ["exec", container, *rest] if rest[-1] != "-T":
                short.append(f"{' '.join(rest)} in {container}")
    return short


def kill_at(server: Server, pattern: str) -> None:
    """A run that is killed with -9 at a docker command, as if nobody had seen what it did."""
    kill = 'pkill -9 -f "rollout.sh up --directory $PWD "'
    server.behave(f'case "$*" in {pattern}) {kill} ;; esac\n{CONTAINERS}')
    assert run(server, "up").status != 0
    server.behave(CONTAINERS)
    (server.stubs / "record").unlink()


def in_order(server: Server, *expected: str) -> bool:
    """Whether these were done one after the other, whatever else was done between them or beside them."""
    done = iter(events(server))
    return all(event in done for event in expected)


RELOADED = f"nginx -s reload in {PROXY}"
GUARD = f"guard in container:{PROXY}"
SHUT_OUT = f"refused address-of-{NEW}"
REFUSED = f"refused address-of-{OLD}"
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


def test_an_nginx_that_looks_the_name_up_once_gives_up_what_it_keeps_open_and_needs_no_trial(server: Server) -> None:
    prepare(server, LITERAL)
    result = run(server, "up")
    assert result.status == 0, result
    assert "trial" not in events(server)
    assert in_order(server, f"start {NEW}", RELOADED, REFUSED, RELOADED, f"stop {OLD}", RELOADED, ACCEPTED)


def test_an_application_that_starts_slowly_is_shut_out_instead_of_tried(prepared: Server) -> None:
    (prepared.directory / ".releve/boot").write_text("150\n")
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "trial" not in events(prepared)
    assert in_order(prepared, GUARD, f"start {NEW}", SHUT_OUT, RELOADED, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)
    assert events(prepared).count(GUARD) == 1


VISITED = f"""#!/bin/sh
# The public address answers.
case "$*" in *--write-out*) ;; *) exec {CURL} "$@" ;; esac
for word; do
    [ "$before" != --output ] || : >"$word"
    before=$word
done
printf '200 %s' "$word"
"""


def test_the_new_container_is_asked_for_its_page_before_a_visitor_can(prepared: Server) -> None:
    prepared.write_command("curl", VISITED)
    result = run(prepared, "up", "--url", "https://shop.example/book/")
    assert result.status == 0, result
    calls = prepared.calls()
    (asked,) = (call for call in calls if call[-1] == "http://172.18.0.2:3000/book/")
    assert "X-Forwarded-Proto: https" in asked
    assert calls.index(["docker", *SHUT_OUT.split()]) < calls.index(asked) < calls.index(["docker", *ACCEPTED.split()])


def test_a_release_that_is_not_healthy_is_shut_out_until_it_is_removed_and_the_proxy_told(prepared: Server) -> None:
    (prepared.directory / ".releve/boot").write_text("150\n")
    prepared.answer("running", "sha256:old")
    prepared.answer("response", "HTTP/1.1 500 Internal Server Error\r\n\r\nno")
    impatient = [word.replace("gate=9", "gate=1") for word in options()]
    result = prepared.run("up", *impatient, *GATE, command=COMMAND)
    assert result.status == 1, result
    assert "answers 500, not 200" in result.errors
    assert (prepared.stubs / "web").read_text() == f"{OLD}\n"
    calls = prepared.docker_calls()
    shut_out, removed, accepted = (
        calls.index(call) for call in (SHUT_OUT.split(), ["rm", "-f", NEW], ACCEPTED.split())
    )
    assert shut_out < removed < accepted
    assert prepared.docker_calls("exec", PROXY)[-1][-1] == "reload"


NO_IPTABLES = 'case "$*" in "run "*chroot*"-A RELEVE"*) exit 127 ;; esac\n'


def test_where_the_server_has_no_iptables_the_release_is_tried_and_the_risk_is_named(prepared: Server) -> None:
    (prepared.directory / ".releve/boot").write_text("150\n")
    prepared.behave(NO_IPTABLES + CONTAINERS)
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "iptables cannot keep proxy-container from the old container of 'web'" in result.output
    assert in_order(prepared, GUARD, "publish", "trial", f"start {NEW}", f"stop {OLD}", RELOADED)
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_connections_that_a_killed_run_has_left_refused_are_accepted_first(prepared: Server) -> None:
    kill_at(prepared, f'"stop {OLD}"')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, GUARD, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)


def test_connections_are_accepted_again_also_when_the_guard_has_ended(prepared: Server) -> None:
    (prepared.stubs / "ends-early").touch()
    result = run(prepared, "up")
    assert result.status == 0, result
    assert in_order(prepared, GUARD, SHUT_OUT, GUARD, ACCEPTED, REFUSED, f"stop {OLD}", ACCEPTED)


def test_a_container_that_ends_before_its_connections_are_accepted_again_does_no_harm(prepared: Server) -> None:
    kill_at(prepared, f'"stop {OLD}"')
    gone = f'"ps -q --no-trunc") echo {PROXY}; exit ;; "run "*"container:{PROXY} "*) exit 1'
    prepared.behave(f'case "$*" in {gone} ;; esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 0, result


def test_a_container_that_was_just_let_in_when_the_run_was_killed_stays(prepared: Server) -> None:
    kill = f'pkill -9 -f "rollout.sh up --directory {prepared.directory} "'
    (prepared.stubs / "when-accepted").write_text(f"{kill}\n")
    assert run(prepared, "up").status != 0
    (prepared.stubs / "when-accepted").unlink()
    result = run(prepared, "up")
    assert result.status == 0, result
    assert ["rm", "-f", NEW] not in prepared.docker_calls()
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_a_guard_that_outlives_a_killed_run_keeps_nothing_from_the_next(prepared: Server) -> None:
    parent = (
        'parent() { awk "{ print \\$4 }" "/proc/$1/stat"; }; part=$(parent $PPID); kill -9 "$(parent "$part")" "$part"'
    )
    prepared.behave(f'case "$*" in "exec {PROXY} "*reload) {parent} ;; esac\n{CONTAINERS}')
    assert run(prepared, "up").status != 0
    # The run is over for whoever has started it, and the guard is there.
    assert not (prepared.directory / ".releve/tmp/guards" / PROXY / "ended").exists()
    prepared.behave(CONTAINERS)
    result = run(prepared, "up")
    assert result.status == 0, result


def test_each_of_two_proxies_has_a_guard_and_the_assets_are_published_once(prepared: Server) -> None:
    both = f"""'ps '*'.Networks'*)
        for proxy in {PROXY} second-proxy; do printf '%s|,%s,|%s\\n' "$proxy" shop_default '"nginx" nginx:1'; done
        exit
        ;;"""
    prepared.behave(f'case "$*" in {both} esac\n{CONTAINERS}')
    result = run(prepared, "up")
    assert result.status == 0, result
    done = events(prepared)
    assert done.count("publish") == 1
    for event in (GUARD, "guard in container:second-proxy", ACCEPTED, "accepted second-proxy"):
        assert event in done, event
    assert (done.count(SHUT_OUT), done.count(REFUSED)) == (2, 2)


def test_a_container_that_a_killed_run_has_shut_out_goes_before_it_is_let_in(prepared: Server) -> None:
    (prepared.directory / ".releve/boot").write_text("150\n")
    kill_at(prepared, f'"exec {PROXY} "*reload')
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


def test_what_an_nginx_does_with_the_name_of_the_service_is_read_from_its_configuration(tmp_path: Path) -> None:
    servers = {}
    for number, case in enumerate(CONFIGURATIONS):
        (tmp_path / str(number)).mkdir()
        servers[case] = Server(tmp_path / str(number))

    def outcome(case: str) -> Result:
        return run(prepare(servers[case], CONFIGURATIONS[case][0]), "up")

    for case, result in side_by_side(outcome, CONFIGURATIONS).items():
        kind = CONFIGURATIONS[case][1]
        assert result.status == 0, (case, result)
        assert ("no nginx was found" in result.output) == (not kind), case
        assert ("trial" in events(servers[case])) == (not kind or kind.startswith("asks")), case
        assert events(servers[case]).count(RELOADED) == {"asks": 2, "": 0}.get(kind, 3), case


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
    quiet = ("--worker-quiet", "kill", "--worker-quiet", "-TSTP", "--worker-quiet", "1")
    result = run(server, "up", *quiet, "--settle", "1")
    assert result.status == 1, result
    assert message in result.errors
    assert "was put back and serves" in result.errors
    assert server.compose_file.read_bytes() == before
    assert (server.stubs / "web").read_text() == f"{OLD}\n"
    assert f"stop {OLD}" not in events(server)
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


@pytest.mark.parametrize("settle", ["0", "1"])
def test_workers_are_told_to_take_no_more_work_and_never_run_twice(server: Server, settle: str) -> None:
    server.add_worker()
    prepare(server)
    quiet = ("--worker-quiet", "kill", "--worker-quiet", "-TSTP", "--worker-quiet", "1")
    result = run(server, "up", *quiet, "--settle", settle)
    assert result.status == 0, result
    assert in_order(
        server, f"start {NEW}", "kill -TSTP 1 in old-worker", "stop old-worker", "rm old-worker", "start new-worker1"
    )
    # The new one is made while the old one ends: what is stopped is counted, what is removed is not.
    assert in_order(server, f"start {NEW}", "create worker", "rm old-worker")
    assert ["compose", "create", "--no-recreate", "--scale=worker=2", "worker"] in server.docker_calls()
    # Compose would remove one of two.
    assert in_order(server, "rm old-worker", "create --remove-orphans")
    if settle == "1":
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
    result = run(server, "up", "--settle", "1")
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
    server.behave(f"""case "$*" in
        "exec old-worker "*) exit 1 ;;
        "inspect --format {{{{.State.Status}}}} old-worker") echo restarting; exit ;;
    esac\n{CONTAINERS}""")
    result = run(server, "up", "--worker-quiet", "quiet")
    assert result.status == 0, result
    assert in_order(server, "stop old-worker", "rm old-worker", "start new-worker1")


def test_the_worker_of_a_failed_release_goes_also_when_it_does_not_take_the_word(server: Server) -> None:
    server.add_worker()
    server.answer("running", "sha256:old")
    prepare(server)
    fails = f'"stop {OLD}" | "exec new-worker1 "*'
    server.behave(f'case "$*" in {fails}) exit 1 ;; esac\n{CONTAINERS}')
    result = run(server, "up", "--worker-quiet", "quiet", "--settle", "1")
    assert result.status == 1, result
    assert "new-worker1 cannot be told to take no more work" in result.errors
    assert "was put back and serves" in result.errors
    assert in_order(server, f"stop {OLD}", "stop new-worker1", "rm new-worker1")


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
    assert "was put back and serves" in result.errors
    # Whatever has stopped before, the new container goes only when the old release serves again.
    assert in_order(server, f"stop {OLD}", f"start {AGAIN}", f"stop {NEW}")
    assert (server.stubs / "web").read_text() == f"{AGAIN}\n"
    assert history(server)[-1]["result"] == "restored"


def test_a_killed_run_is_gone_on_with_and_its_container_is_not_made_twice(prepared: Server) -> None:
    kill_at(prepared, f'"start {NEW}"')
    result = run(prepared, "up")
    assert result.status == 0, result
    assert "create web" not in events(prepared)
    assert (prepared.stubs / "web").read_text() == f"{NEW}\n"


def test_pending_migrations_are_refused_unless_the_old_release_can_work_with_them(prepared: Server) -> None:
    prepared.behave(f"{PENDING.removeprefix(WELL)}\n{CONTAINERS}")
    before = prepared.compose_file.read_bytes()
    refused = run(prepared, "up", *MIGRATE)
    assert refused.status == 1
    assert "set app.migrations: compatible" in refused.errors
    assert prepared.compose_file.read_bytes() == before
    done = run(prepared, "up", *MIGRATE, "--migrations", "compatible")
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


def test_what_cannot_run_twice_is_refused_before_anything_is_pulled(tmp_path: Path) -> None:
    servers = {}
    for number, obstacle in enumerate(OBSTACLES):
        (tmp_path / str(number)).mkdir()
        servers[obstacle] = Server(tmp_path / str(number))
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
    (prepared.stubs / "record").unlink()
    # As if another one had served meanwhile.
    (prepared.stubs / "web").write_text(f"{OLD}\n")
    assert (prepared.directory / ".releve/releases" / name).exists()
    assert run(prepared, "up").status == 0
    assert "trial" not in events(prepared)
    assert "create web" in events(prepared)


def test_a_connection_that_the_application_has_not_accepted_is_seen_as_long_as_it_waits() -> None:
    program = f'port=$2; . {SCRIPT.with_name("connections.sh")}; has_queue "$1"'
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def has_queue() -> bool:
            command = ["sh", "-c", program, "sh", str(os.getpid()), str(address[1])]
            return subprocess.run(command, check=False).returncode == 0

        assert not has_queue()
        with socket.create_connection(address):
            assert has_queue()
            accepted, _ = server.accept()
            with accepted:
                assert not has_queue()
