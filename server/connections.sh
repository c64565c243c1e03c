# shellcheck shell=sh
# New connections between a proxy and a container, refused for a while; those that are there go on. A proxy whose connection
# is refused asks the next container, also with a POST. One that is connected to a container that stops may not ask again.
#
# The rules are in a container's own network, and end with it. They are made by this server's own iptables, which the Docker
# Engine needs as well, in a container that shares that network.
#
#   .releve/refusing   the containers in whose networks there are rules

REFUSE='
    set -e
    sign=$1 hook=$2 side=$3
    shift 3
    until [ ! "$sign" ] || [ -e "$sign/refuse" ]; do
        [ -e "$sign/ready" ] || exit 1
        sleep 0.02
    done
    for address in "$@"; do
        case $address in *:*) tables=ip6tables ;; *) tables=iptables ;; esac
        if "$tables" -w 5 -N RELEVE 2>/dev/null; then "$tables" -w 5 -I "$hook" -j RELEVE; fi
        "$tables" -w 5 -A RELEVE -p tcp --syn "$side" "$address" -j REJECT --reject-with tcp-reset
    done'

ACCEPT='
    for tables in iptables ip6tables; do
        "$tables" -w 5 -F RELEVE 2>/dev/null || continue # it is not there
        for hook in INPUT OUTPUT; do "$tables" -w 5 -D "$hook" -j RELEVE 2>/dev/null; done
        "$tables" -w 5 -X RELEVE || exit 1
    done'

refuse_connections() { # CONTAINER INPUT|OUTPUT ADDRESS …: those that come from these addresses, or go to them
    printf '%s\n' "$1" >>.releve/refusing
    process=$(printf '%s' "$ready" | sed -n "s/ $1\$//p")
    if [ -n "$process" ]; then
        : >"$scratch/refuse"
        ! wait "$process" || return 0
    fi
    set_rules '' "$@" || {
        accept_connections "$1"
        return 1
    }
}

ready_to_refuse() { # CONTAINER INPUT|OUTPUT ADDRESS …: what refuse_connections is about to do: a rule is set at once, but the
    # container that sets it takes a while to start. Sets ready
    : >"$scratch/ready"
    set_rules "$scratch" "$@" &
    ready="$ready$! $1$IFS"
}

end_readiness() { # of a rollout that has ended otherwise, and of all else in the background
    rm -f -- "$scratch/ready"
    wait
}

set_rules() { # DIRECTORY|'' CONTAINER INPUT|OUTPUT ADDRESS …: when there is the sign `refuse` in the directory, or now
    sign=$1 of=$2 hook=$3
    case $hook in INPUT) side=-s ;; *) side=-d ;; esac
    shift 3
    in_network_of "$of" "$REFUSE" "$sign" "$hook" "$side" "$@"
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
    in_network_of "$1" "$ACCEPT" || return 1
    grep -vxF -- "$1" .releve/refusing >.releve/refusing.new || : # there may be no other
    mv -f -- .releve/refusing.new .releve/refusing
}

accept_all_connections() { # where a run has left them refused; a container that is gone has taken its rules along
    [ -s .releve/refusing ] || return 0
    running=$(ask docker ps -q --no-trunc) || fail 'docker ps failed.'
    refused=''
    for container in $running; do
        ! is_listed "$container" .releve/refusing || accept_connections "$container" || refused=yes
    done
    [ -z "$refused" ] || return 1
    : >.releve/refusing
}

in_network_of() { # CONTAINER PROGRAM ARGUMENT …: with this server's own commands
    joined=$1 program=$2
    shift 2
    run_as_root "network-$(printf '%s' "$joined" | cut -c 1-12)" --network "container:$joined" \
        --cap-add NET_ADMIN --security-opt label=disable \
        --env "PATH=$PATH:/usr/sbin:/sbin" --mount type=bind,source=/,target=/host \
        --entrypoint chroot "$repository@$digest" /host sh -c "$program" sh "$@"
}

addresses_in_networks() { # CONTAINER …
    ask docker inspect --format \
        '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{println .GlobalIPv6Address}}{{end}}' "$@" | sed '/^$/d'
}
