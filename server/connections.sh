# shellcheck shell=sh
# New connections between a proxy and a container, refused for a while; those that are there go on. A proxy whose connection
# is refused asks the next container, also with a POST. One that is connected to a container that stops may not ask again.
#
# The rules are in a container's own network, and end with it. They are made by this server's own iptables, which the Docker
# Engine needs as well, in a container that shares that network.
#
#   .releve/refusing   the containers in whose networks there are rules

ACCEPT='
    for tables in iptables ip6tables; do
        "$tables" -w 5 -F RELEVE 2>/dev/null || continue # it is not there
        for hook in INPUT OUTPUT; do "$tables" -w 5 -D "$hook" -j RELEVE 2>/dev/null || :; done
        "$tables" -w 5 -X RELEVE || exit 1
    done'

# A rule is set at once, but the container that sets it takes a while to start: it may be there before. It waits for signs,
# files in the directory $1: first `refuse`, then `accept`. When the directory goes it ends, and leaves all as it is.
REFUSE='
    set -e
    signs=$1 hook=$2 side=$3
    shift 3
    await() {
        until [ -e "$signs/$1" ]; do
            [ -d "$signs" ] || exit 0
            sleep 0.02
        done
    }
    await refuse
    for address in "$@"; do
        case $address in *:*) tables=ip6tables ;; *) tables=iptables ;; esac
        if "$tables" -w 5 -N RELEVE 2>/dev/null; then "$tables" -w 5 -I "$hook" -j RELEVE; fi
        "$tables" -w 5 -A RELEVE -p tcp --syn "$side" "$address" -j REJECT --reject-with tcp-reset
    done
    touch -- "$signs/refused" || : # the script has ended
    await accept
'"$ACCEPT"'
    touch -- "$signs/accepted" || :'

signs_for() { # CONTAINER: sets signs
    signs=$scratch/networks/$1
}

ready_to_refuse() { # CONTAINER INPUT|OUTPUT ADDRESS …: what refuse_connections is about to do
    signs_for "$1"
    mkdir -p -- "$signs"
    of=$1 hook=$2
    shift 2
    case $hook in INPUT) side=-s ;; *) side=-d ;; esac
    (
        in_network_of "$of" refuse "$REFUSE" "$signs" "$hook" "$side" "$@" || :
        [ ! -d "$signs" ] || : >"$signs/ended"
    ) &
}

refuse_connections() { # CONTAINER INPUT|OUTPUT ADDRESS …: those that come from these addresses, or go to them
    printf '%s\n' "$1" >>.releve/refusing
    signs_for "$1"
    [ -d "$signs" ] || ready_to_refuse "$@"
    : >"$signs/refuse"
    if ! await_sign refused; then
        accept_connections "$1"
        return 1
    fi
}

await_sign() { # NAME: unless the container ends without it
    until [ -e "$signs/$1" ]; do
        clock
        if [ -e "$signs/ended" ] || [ "$now" -ge "$deadline" ]; then
            [ -e "$signs/$1" ]
            return
        fi
        sleep 0.02
    done
}

end_background() { # of a part that is over: containers that wait for their signs wait no longer
    [ -z "$telling" ] || wait "$telling" || :
    rm -rf -- "$scratch/networks"
    wait
}

await_accepted() { # CONTAINER …: until the application has accepted the connections that wait in its queue. Behind slow requests
    # they may wait for a while, and are reset when it stops
    waiting=$(ask docker inspect --format '{{.State.Pid}}' "$@") || fail 'docker inspect failed.'
    clock
    limit=$((now + MOST_WAITING * 100))
    for process in $waiting; do
        while has_queue "$process"; do
            clock
            if [ "$now" -ge "$limit" ] || [ "$now" -ge "$deadline" ]; then
                say "notice: connections still wait for the old container of '$web', and are lost"
                return 0
            fi
            sleep 0.05
        done
    done
}

MOST_WAITING=30 # seconds

has_queue() { # PROCESS: whether connections to --port wait in its network: the second half of tx_queue:rx_queue is their number
    listeners "$1" | grep -qv ':0*$'
}

listeners() { # PROCESS: prints tx_queue:rx_queue of each socket in its network that listens on --port, which is state 0A, where
    # this server shows that (proc_pid_net(5))
    # One of the files may not be there, which ends some awks.
    cat "/proc/$1/net/tcp" "/proc/$1/net/tcp6" 2>/dev/null | awk -v port="$(printf ':%04X' "$port")" \
        '$4 == "0A" && substr($2, length($2) - 4) == port { print $5 }'
}

accept_connections() { # CONTAINER: again
    signs_for "$1"
    if [ ! -e "$signs/refused" ] || ! : >"$signs/accept" || ! await_sign accepted; then
        # The container that would do it is none of this run's, or has ended.
        in_network_of "$1" accept "$ACCEPT" || return 1
    fi
    rm -rf -- "$signs" || : # the other side may just say that it has ended
    grep -vxF -- "$1" .releve/refusing >.releve/refusing.new || : # there may be no other
    mv -f -- .releve/refusing.new .releve/refusing
}

accept_all_connections() { # where a run has left them refused; a container that is gone has taken its rules along
    [ -s .releve/refusing ] || return 0
    running=$(ask docker ps -q --no-trunc) || fail 'docker ps failed.'
    refused=''
    for container in $running; do
        if ! is_listed "$container" .releve/refusing || accept_connections "$container"; then continue; fi
        # It may have ended meanwhile.
        [ -z "$(ask docker ps -q --filter "id=$container")" ] || refused=yes
    done
    [ -z "$refused" ] || return 1
    : >.releve/refusing
}

in_network_of() { # CONTAINER NAME PROGRAM ARGUMENT …: with this server's own commands
    joined=$1 name=$2 program=$3
    shift 3
    run_as_root "$name-$(printf '%s' "$joined" | cut -c 1-12)" --network "container:$joined" \
        --cap-add NET_ADMIN --security-opt label=disable \
        --env "PATH=$PATH:/usr/sbin:/sbin" --mount type=bind,source=/,target=/host \
        --entrypoint chroot "$repository@$digest" /host sh -c "$program" sh "$@"
}

addresses_in_networks() { # CONTAINER …
    ask docker inspect --format \
        '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{println .GlobalIPv6Address}}{{end}}' "$@" | sed '/^$/d'
}
