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
    hook=$1 side=$2
    shift 2
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
    of=$1 hook=$2
    case $hook in INPUT) side=-s ;; *) side=-d ;; esac
    shift 2
    in_network_of "$of" "$REFUSE" "$hook" "$side" "$@" || {
        accept_connections "$of"
        return 1
    }
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
    run_as_root network --network "container:$joined" --cap-add NET_ADMIN --security-opt label=disable \
        --env "PATH=$PATH:/usr/sbin:/sbin" --mount type=bind,source=/,target=/host \
        --entrypoint chroot "$repository@$digest" /host sh -c "$program" sh "$@"
}

addresses_in_networks() { # CONTAINER …
    ask docker inspect --format \
        '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{println .GlobalIPv6Address}}{{end}}' "$@" | sed '/^$/d'
}
