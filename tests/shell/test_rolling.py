"""The strategy rolling: the new container beside the old one, the proxy that must see it, and the old one's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.server import DIGEST, IMAGE, Result, Server, side_by_side
from tests.shell.test_staged import COMMAND, GATE, LIMITS, MIGRATE, PENDING, WELL, history

OLD, NEW, PROXY = "old-container", "new-container", "proxy-container"

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
    *'status=created'*) exit ;;
    'ps '*'{{{{.State}}}}'*) sed 's/^/web running /' "$web"; sed 's/^/worker running /' "$worker"; exit ;;
    'compose create --remove-orphans') exit ;;
    'compose create '*worker*) echo new-worker >"$worker"; exit ;;
    'compose create '*) grep -qx {NEW} "$web" || echo {NEW} >>"$web"; exit ;;
    'rm '*) for word; do sed -i "/^$word\\$/d" "$web" "$worker"; done; exit ;;
    'inspect '*'{{{{.Id}}}} {{{{.State.Status}}}}'*) shift 3; for word; do echo "$word running"; done; exit ;;
    'inspect '*'println "network"'*) printf 'network shop_default\\nname web\\nname shop-web-1\\n'; exit ;;
    'inspect '*'{{{{with index'*) echo 172.18.0.2; exit ;;
    'inspect '*'$.Path'*)
        printf '%s|shop_default|%s\\n' {OLD} 'puma app' {PROXY} 'nginx [-g daemon off;] nginx:1'
        exit
        ;;
    'exec '*' nginx -T') cat "$STUBS/nginx.conf" 2>/dev/null; exit ;;
    *'# releve$'*) exit ;;
    *' >>/etc/hosts'*) exit ;;
    'exec '*' -s reload') echo reloaded >>"$STUBS/reloads"; exit ;;
    'top '*'pid,args') echo "$(wc -l <"$STUBS/reloads" 2>/dev/null || echo 0) ? nginx: worker process"; exit ;;
    'top '*) printf 'PID RSS\\n1 1000\\n'; exit ;;
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
            case ["run", *_] if "--name" in call:
                short.append(call[call.index("--name") + 1].rpartition("-")[2])
            case ["start" | "stop" as verb, *rest] | ["rm" as verb, *rest] if rest[0] != "-f":
                short.append(f"{verb} {' '.join(rest)}")
            case ["exec", "--user", _, container, *rest] if rest[-1].startswith("172.18.0.2 "):
                short.append(f"{rest[-1]} in {container}")
            case ["exec", container, *rest] if container != "--user" and rest[-1] != "-T":
                short.append(f"{' '.join(rest)} in {container}")
    return short


def test_the_old_container_stops_only_when_the_new_one_serves_and_the_proxy_has_seen_it(prepared: Server) -> None:
    result = run(prepared, "up")
    assert result.status == 0, result
    assert events(prepared) == [
        *("publish", "trial", "create web", f"start {NEW}"),
        *(f"stop {OLD}", f"nginx -s reload in {PROXY}", f"rm {OLD}", "create --remove-orphans"),
    ]
    create, _ = prepared.docker_calls("compose", "create")
    assert create == ["compose", "create", "--no-recreate", "--scale", "web=2", "web"]
    assert IMAGE in prepared.compose_file.read_text()
    assert history(prepared)[-1]["result"] == "released"


def test_an_nginx_that_looks_the_name_up_once_is_reloaded_before_and_after_and_needs_no_trial(server: Server) -> None:
    prepare(server, LITERAL)
    result = run(server, "up")
    assert result.status == 0, result
    reloaded = f"nginx -s reload in {PROXY}"
    assert events(server) == [
        *("publish", "create web", f"start {NEW}", reloaded),
        # It forgets the old container's address before that container's end.
        *(f"172.18.0.2 shop-web-1 web in {PROXY}", reloaded),
        *(f"stop {OLD}", reloaded, f"rm {OLD}", "create --remove-orphans"),
    ]


CONFIGURATIONS = {
    "asked every second": (ASKED, ""),
    "asked rarely": (ASKED.replace("valid=1s", "valid=1h"), "reloaded"),
    "asked as rarely as Docker's DNS says": (ASKED.replace(" valid=1s", ""), "reloaded"),
    "in an upstream": (LITERAL, "reloaded"),
    "in an upstream that resolves": (LITERAL.replace("3000;", "3000 resolve;") + ASKED.partition("server")[0], ""),
    "in proxy_pass": ("location / { proxy_pass http://web:3000; }\n", "reloaded"),
    "by the container's name": ("location / { proxy_pass http://shop-web-1:3000/x; }\n", "reloaded"),
    "in a comment": (f"# server web:3000;\n{ASKED}", ""),
    "another service": ("location / { proxy_pass http://website:3000; }\nserver_name web;\n", "no nginx was found"),
}


def test_what_an_nginx_does_with_the_name_of_the_service_is_read_from_its_configuration(tmp_path: Path) -> None:
    servers = {}
    for number, case in enumerate(CONFIGURATIONS):
        (tmp_path / str(number)).mkdir()
        servers[case] = Server(tmp_path / str(number))

    def outcome(case: str) -> Result:
        return run(prepare(servers[case], CONFIGURATIONS[case][0]), "up")

    for case, result in side_by_side(outcome, CONFIGURATIONS).items():
        expected = CONFIGURATIONS[case][1]
        assert result.status == 0, (case, result)
        assert (expected or "answers 200") in result.output, case
        if not expected:
            assert "reloaded" not in result.output, case
            assert "no nginx" not in result.output, case


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*-trial*", "No container of 'web' can be started"),
        ('"compose create"*', "The containers of web cannot be made"),
        (f'"start {NEW}"', "The containers of web cannot be started"),
        ('*"nginx -T"', "is not accepted (nginx -T)"),
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
    result = run(server, "up", "--worker-quiet", "kill", "--worker-quiet", "-TSTP", "--worker-quiet", "1")
    assert result.status == 1, result
    assert message in result.errors
    assert "was put back and serves" in result.errors
    assert server.compose_file.read_bytes() == before
    assert (server.stubs / "web").read_text() == f"{OLD}\n"
    assert f"stop {OLD}" not in events(server)
    assert history(server)[-1]["result"] == "restored"


def test_workers_are_told_to_take_no_more_work_and_never_run_twice(server: Server) -> None:
    server.add_worker()
    prepare(server)
    result = run(server, "up", "--worker-quiet", "kill", "--worker-quiet", "-TSTP", "--worker-quiet", "1")
    assert result.status == 0, result
    done = events(server)
    quiet = done.index("kill -TSTP 1 in old-worker")
    assert done[quiet : quiet + 5] == [
        *("kill -TSTP 1 in old-worker", "stop old-worker", "rm old-worker", "create worker", "start new-worker"),
    ]
    assert done.index(f"start {NEW}") < quiet < done.index(f"stop {OLD}")


def test_a_killed_run_is_gone_on_with_and_its_container_is_not_made_twice(prepared: Server) -> None:
    kill = 'pkill -9 -f "rollout.sh up --directory $PWD "'
    prepared.behave(f'case "$*" in "start {NEW}") {kill} ;; esac\n{CONTAINERS}')
    assert run(prepared, "up").status != 0
    prepared.behave(CONTAINERS)
    (prepared.stubs / "record").unlink()
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
