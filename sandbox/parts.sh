# shellcheck shell=sh disable=SC2034  # some of it is used by those who source it
# How the sandbox's registries and servers are made. Sourced after lib.sh by the commands that make some.

REGISTRY=$PREFIX-registry
NETWORK=$PREFIX

image() { "$HERE/build-images" "$1"; }

# create_ports NAME COUNT KEY…: finds a block of free ports and records one under each key.
create_ports() {
    [ ! -f "$SANDBOX/ports/$1" ] || return 0
    name=$1
    port=$(python3 "$HERE/free_ports.py" "$PREFIX-$name" "$2")
    shift 2
    for key in "$@"; do
        printf '%s=%s\n' "$key" "$port"
        port=$((port + 1))
    done >"$SANDBOX/ports/$name.new"
    mv "$SANDBOX/ports/$name.new" "$SANDBOX/ports/$name"
}

# create_keys NAME: the key to log in with, and the server's own, which the user knows.
create_keys() {
    [ -f "$SSH_KEY" ] || ssh-keygen -q -t ed25519 -N '' -C "$PREFIX" -f "$SSH_KEY"
    [ -f "$SANDBOX/ssh/$1_host_ed25519_key" ] ||
        ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$SANDBOX/ssh/$1_host_ed25519_key"
    for file in "$SANDBOX"/ssh/*_host_ed25519_key; do
        server=$(basename "$file" _host_ed25519_key)
        printf '[127.0.0.1]:%s %s\n' "$(value ssh "$SANDBOX/ports/$server")" "$(host_key "$server")"
    done >"$KNOWN_HOSTS"
}

create_network() {
    docker network inspect "$NETWORK" >/dev/null 2>&1 || docker network create --label "$LABEL" "$NETWORK" >/dev/null
}

# create_volumes NAME…: with the label by which sandbox/down finds them; `docker run` makes volumes without one.
create_volumes() {
    for volume in "$@"; do
        docker volume create --label "$LABEL" "$volume" >/dev/null
    done
}

# start CONTAINER IMAGE: starts it if it exists, whole and made from that image; otherwise removes it and fails. What it
# holds lies in volumes. One that was never started may lack its keys.
start() {
    state=$(docker container inspect --format '{{.Config.Image}} {{.State.Status}}' "$1" 2>/dev/null) || return 1
    case $state in
        "$2 running") ;;
        "$2 created") docker rm "$1" >/dev/null && return 1 ;;
        "$2 paused") docker unpause "$1" >/dev/null ;;
        "$2 "*) say "starting $1" && docker start "$1" >/dev/null ;;
        *)
            say "making $1 anew"
            docker rm --force "$1" >/dev/null
            return 1
            ;;
    esac
}

# lock_sandbox: for the rest of the command. What it starts in the background is given 9>&-.
lock_sandbox() {
    exec 9>"$SANDBOX/lock"
    flock 9
}

# create_server NAME IMAGE [docker create options]: a container that has its keys and volumes, not yet started.
# Where IMAGE_STORE is containerd, its Engine keeps images there.
create_server() {
    name=$1 image=$2
    shift 2
    container=$PREFIX-$name
    ports=$SANDBOX/ports/$name
    extra=$(value extra "$ports")
    public_ports=$(value http "$ports"):80
    for offset in 0 1 2 3 4 5 6 7; do
        public_ports="$public_ports $((extra + offset)):$((${EXTRA_PORTS%-*} + offset))"
    done
    create_volumes "$container-docker" "$container-apps"
    docker create --name "$container" --hostname "$name" --label "$LABEL" --network "$NETWORK" --init --stop-timeout 30 \
        --restart unless-stopped \
        --publish "127.0.0.1:$(value ssh "$ports"):22" --publish "127.0.0.1:$(value http "$ports"):80" \
        --publish "127.0.0.1:$extra-$((extra + 7)):$EXTRA_PORTS" \
        --volume "$container-docker:/var/lib/docker" --volume "$container-apps:/apps" \
        --env "REGISTRY_PORT=$(value registry "$SANDBOX/ports/registry")" --env REGISTRY_ADDRESS=registry:5000 \
        --env "PUBLIC_PORTS=$public_ports" \
        "$@" "$image" >/dev/null
    for pair in "$SANDBOX/ssh/${name}_host_ed25519_key=host_key" "$SANDBOX/ssh/${name}_host_ed25519_key.pub=host_key.pub" \
        "$SSH_KEY.pub=authorized_keys"; do
        docker cp --quiet "${pair%%=*}" "$container:/etc/sandbox/${pair#*=}"
    done
    if [ "${IMAGE_STORE-}" = containerd ]; then
        sed '1s/{/{\n  "features": {"containerd-snapshotter": true},/' "$HERE/images/server/daemon.json" >"$SANDBOX/daemon.json"
        docker cp --quiet "$SANDBOX/daemon.json" "$container:/etc/docker/daemon.json"
    fi
}

start_server() {
    image=$(image server)
    container=$PREFIX-$1
    ! start "$container" "$image" || return 0
    say "starting the server $1"
    create_server "$1" "$image" --privileged
    docker start "$container" >/dev/null 2>&1 || {
        docker rm --force "$container" >/dev/null
        say "--privileged is refused here; naming the capabilities one by one"
        set -- "$1" "$image" --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
            --device-cgroup-rule 'a *:* rwm' --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup:rw
        for capability in SYS_ADMIN NET_ADMIN NET_RAW SYS_PTRACE SYS_MODULE MKNOD SYSLOG DAC_READ_SEARCH LINUX_IMMUTABLE; do
            set -- "$@" --cap-add "$capability"
        done
        create_server "$@"
        docker start "$container" >/dev/null
    }
}

server_answers() { docker exec "$PREFIX-$1" docker version; }

login_answers() { "$HERE/ssh" "$1" true; }

# bring_server NAME: until one can log in and use Docker there.
bring_server() {
    create_ports "$1" 10 ssh http extra
    create_keys "$1"
    start_server "$1"
    wait_for 60 "$1's Docker Engine" server_answers "$1"
    wait_for 30 "$1's sshd" login_answers "$1"
    trust_secure_registry "$1"
}

# trust_secure_registry NAME: where there is one; see sandbox/secure-registry.
trust_secure_registry() {
    [ -f "$SECURE/address" ] || return 0
    directory=/etc/docker/certs.d/$(cat "$SECURE/address")
    docker exec "$PREFIX-$1" mkdir -p "$directory"
    docker cp --quiet "$SECURE/ca.crt" "$PREFIX-$1:$directory/ca.crt"
}
