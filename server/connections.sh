# shellcheck shell=sh
# New connections from a proxy to a container, refused for a while; those that are there go on. A proxy whose connection is
# refused asks the next container, also with a POST. One that is connected to a container that stops may not ask again, and
# one that is connected to a container that only starts gets its errors.
#
# The rules are in the proxy's network, and end with it. They are made by this server's own iptables, which the Docker Engine
# needs as well, in a container that shares that network: the proxy's guard. It takes a while to start, and stays.
#
#   .releve/refusing   proxies in whose networks there may be rules, and containers to which connections were refused

# The program of a guard. In the directory $1 it finds the pipe `ask`, and makes the file `ready`. With each line it refuses
# new connections to the addresses in it, and to no others, and makes the file `done`. With the line `end`, which it may come
# too late to read, or the file `end`, it ends, and leaves all as it is. $2 is the search path.
GUARD='
    set -e
    accept_all() {
        for tables in iptables ip6tables; do
            "$tables" -w 5 -F RELEVE 2>/dev/null || continue # it is not there
            "$tables" -w 5 -D OUTPUT -j RELEVE 2>/dev/null || :
            "$tables" -w 5 -X RELEVE
        done
    }
    refuse() {
        for address in "$@"; do
            case $address in *:*) tables=ip6tables ;; *) tables=iptables ;; esac
            if "$tables" -w 5 -N RELEVE 2>/dev/null; then "$tables" -w 5 -I OUTPUT -j RELEVE; fi
            "$tables" -w 5 -A RELEVE -p tcp --syn -d "$address" -j REJECT --reject-with tcp-reset
        done
    }
    PATH=$2:/usr/sbin:/sbin
    cd -- "$1"
    exec 3<>ask
    accept_all
    refuse 192.0.2.1 # nobody (RFC 5737): whether this server can
    accept_all
    : >ready
    while [ ! -e end ] && read -r addresses <&3 && [ "$addresses" != end ]; do
        accept_all
        refuse $addresses
        : >done
    done'

# The program of one that first publishes the assets $4 to $5 …, and makes the file `published`: to start a container is most
# of what either takes.
PUBLISH_AND_GUARD='
    set -e
    guard=$1 path=$2 program=$3
    shift 3
    ('"$PUBLISH"'
    )
    : >"/host$guard/published"
    exec chroot /host sh -c "$program" sh "$guard" "$path"'

guard_proxies() { # which takes a while, in the background. The first guard publishes what is not published yet
    for proxy in $proxies; do guard_proxy "${proxy#* }" "$unpublished"; done
}

guard_proxy() { # PROXY [yes, if it is to publish]
    find_guard "$1"
    [ ! -d "$guard" ] || return 0
    mkdir -p -- "$guard"
    mkfifo -- "$guard/ask"
    guarded=$1
    if [ -n "${2-}" ]; then
        forget_purge "$(published_name)"
        unpublished='' publisher=$1
    fi
    # One that outlives a killed script keeps neither its lock nor its connection.
    (
        if [ -n "${2-}" ]; then
            each "$assets" files_in_volumes run_guard guard "$PUBLISH_AND_GUARD" "$guard" "$PATH" "$GUARD" "$(published_name)"
        else
            run_guard guard --entrypoint chroot "$repository@$digest" /host sh -c "$GUARD" sh "$guard" "$PATH"
        fi || :
        [ ! -d "$guard" ] || : >"$guard/ended"
    ) >>"$log" 2>&1 9>&- &
}

run_guard() { # NAME [OPTION …] IMAGE ARGUMENT …: in the network of the proxy $guarded, with this server's own files
    name=$1-$(printf '%s' "$guarded" | cut -c 1-12)
    shift
    run_as_root "$name" --network "container:$guarded" --cap-add NET_ADMIN --security-opt label=disable \
        --mount type=bind,source=/,target=/host --mount "$(mount_option bind "$directory/.releve" /releve)" "$@"
}

find_guard() { # PROXY: sets guard, the directory through which it is asked
    guard=$scratch/guards/$1
}

can_refuse() { # whether each proxy has a guard that is able to
    for proxy in $proxies; do
        find_guard "${proxy#* }"
        await_guard ready || return 1
    done
}

ask_guard() { # PROXY [ADDRESS …]: to refuse connections to these, and to no others. Of another one where it has ended
    find_guard "$1"
    [ ! -e "$guard/ended" ] || rm -rf -- "$guard"
    guard_proxy "$1"
    await_guard ready || return 1
    [ $# -eq 1 ] || printf '%s\n' "$1" >>.releve/refusing
    shift
    rm -f -- "$guard/done"
    # Opened in both ways, it does not wait for a reader.
    printf '%s\n' "$(words "$@")" 1<>"$guard/ask"
    await_guard 'done'
}

await_guard() { # FILE: unless it ends without it
    until [ -e "$guard/$1" ]; do
        clock
        if [ -e "$guard/ended" ] || [ "$now" -ge "$deadline" ]; then
            [ -e "$guard/$1" ]
            return
        fi
        sleep 0.02
    done
}

refuse_connections() { # PROXY ADDRESS …: to these from now on, and to no others
    ask_guard "$@" || {
        ! is_listed "$1" .releve/refusing || accept_connections "$1" || :
        return 1
    }
}

accept_connections() { # PROXY: to all again
    # One that has just ended does not answer.
    ask_guard "$1" || ask_guard "$1" || return 1
    forget_refused "$1"
}

forget_refused() { # CONTAINER
    grep -vxF -- "$1" .releve/refusing >.releve/refusing.new || : # there may be no other
    mv -f -- .releve/refusing.new .releve/refusing
}

accept_all_connections() { # where a run has left them refused; a proxy that is gone has taken its rules along
    [ -s .releve/refusing ] || return 0
    running=$(ask docker ps -q --no-trunc) || fail 'docker ps failed.'
    for container in $running; do
        if ! is_listed "$container" .releve/refusing || accept_connections "$container"; then continue; fi
        # It may have ended meanwhile.
        [ -z "$(ask docker ps -q --filter "id=$container")" ] || return 1
    done
    : >.releve/refusing
}

dismiss_guards() {
    find "$scratch/guards" ! -name guards -prune 2>/dev/null | while IFS= read -r guard; do
        touch -- "$guard/end" && printf 'end\n' 1<>"$guard/ask" || :
    done
}

end_background() { # of a part that is over
    [ -z "$telling" ] || wait "$telling" || :
    dismiss_guards
    wait
    rm -rf -- "$scratch/guards"
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

addresses_in_networks() { # CONTAINER …
    ask docker inspect --format \
        '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{println .GlobalIPv6Address}}{{end}}' "$@" | sed '/^$/d'
}
