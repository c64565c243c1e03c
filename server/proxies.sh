# shellcheck shell=sh
# The nginx that passes requests to the first service: how it learns of a new container, and that an old one is gone. By a
# reload, in both cases: what it has looked up it believes for a while, and an address that nobody has any more is not refused
# but waited for.

UNKNOWN_PROXY=2 # seconds in which a proxy that is no nginx should have found a new container

# What an nginx does with the names in ENVIRON["names"], from its whole configuration: prints nothing when it passes no requests
# to any of them; `once` when it looks them up when it reads its configuration, and may keep connections open; `asks` when it
# asks for them again by itself; `asks-keeps` when it does both.
ASKS='
    BEGIN {
        count = split(ENVIRON["names"], list, "\n")
        for (i = 1; i <= count; i++) {
            gsub(/\./, "[.]", list[i])
            name = name (i > 1 ? "|" : "") list[i]
        }
        name = "(" name ")"
    }
    { sub(/(^|[ \t])#.*/, "") }
    $0 ~ "_pass[ \t]+([a-z]+://)?" name "[:/;]" || $0 ~ "(^|[{; \t])server[ \t]+" name "[:; \t]" {
        keeps = 1
        if ($0 ~ /[ \t]resolve[ \t;]/) asks = 1
        next
    }
    # In a variable, or in a map that gives one.
    $0 ~ "[ \t\"/]" name "[:/;\" \t]" && !/server_name/ { asks = 1 }
    END { if (asks || keeps) print (asks ? "asks" : "once") (asks && keeps ? "-keeps" : "") }'

begin_finding_proxies() { # of what runs, in the background: into a file
    (
        running=$(containers_of "$web" --filter status=running) || fail 'docker ps failed.'
        [ -n "$running" ] || exit 0
        find_proxies "${running%%"$IFS"*}"
        printf '%s' "$proxies" >"$scratch/proxies"
    ) &
    finding=$!
}

find_proxies() { # CONTAINER of the first service: sets proxies, a line KIND CONTAINER for each. Fails where one could not be
    # reloaded, before anything depends on it.
    proxies=''
    reach=$(ask docker inspect --format '{{range $name, $network := .NetworkSettings.Networks}}{{println "network" $name}}{{
        range $network.Aliases}}{{println "name" .}}{{end}}{{end}}' "$1") || fail 'docker inspect failed.'
    networks=$(printf '%s\n' "$reach" | sed -n 's/^network //p')
    # A container's id is one of its names; that of its service always.
    names=$(printf '%s\n' "name $web" "$reach" | sed -n 's/^name //p' | sort -u |
        while IFS= read -r name; do case $1 in "$name"*) ;; *) printf '%s\n' "$name" ;; esac; done)
    # In one question: a container that ends between two, of whomever, is no reason to fail.
    running=$(ask docker ps --no-trunc --format '{{.ID}}|,{{.Networks}},|{{.Command}} {{.Image}}') || fail 'docker ps failed.'
    for line in $running; do
        container=${line%%|*}
        shared=''
        for network in $networks; do case $line in *"|"*",$network,"*"|"*) shared=yes ;; esac; done
        [ -n "$shared" ] || continue
        case $line in *nginx*) ;; *) continue ;; esac
        status=0
        # It tests the configuration, as -t does, and prints it.
        configuration=$(ask docker exec "$container" nginx -T) || status=$?
        case $status in
            0) ;;
            126 | 127) continue ;; # there is no nginx in it
            *)
                fail "The configuration of $(name_of "$container") is not accepted (nginx -T)." \
                    'Put it right: it is read at a reload, which the strategy rolling needs.'
                ;;
        esac
        kind=$(printf '%s\n' "$configuration" | names=$names awk "$ASKS")
        [ -z "$kind" ] || proxies="$proxies$kind $container$IFS"
    done
    [ -n "$proxies" ] ||
        say "notice: no nginx was found that passes requests to '$web'; what does must find a new container within $UNKNOWN_PROXY s"
}

show_proxies() { # early|late, the new container, started at $started_at: returns when all that are to know it then do
    for proxy in $proxies; do
        # One that keeps a list of servers would hold it against the new one that it was refused.
        case $1:$proxy in early:asks\ * | late:once* | late:asks-*) ;; *) continue ;; esac
        reload_proxy "${proxy#* }" || fail "$(name_of "${proxy#* }") cannot be reloaded."
    done
    case $1:$proxies:$stale in late::?*) pause_until $((started_at + UNKNOWN_PROXY * 100)) ;; esac
}

lead_proxies_away() { # from $stale: what is connected ends what it does, and nobody connects any more
    gone=$(each "$stale" addresses_in_networks) || fail 'docker inspect failed.'
    for proxy in $proxies; do
        container=${proxy#* }
        each "$gone" refuse_connections "$container" || say "notice: this server's iptables cannot keep $(
            name_of "$container") from the old container of '$web': the requests of its last moment may fail"
        # What it keeps open, to use it again, is not a new connection.
        case $proxy in asks\ *) continue ;; esac
        reload_proxy "$container" || fail "$(name_of "$container") cannot be reloaded."
    done
}

tell_proxies() { # that $stale is gone, whatever becomes of it: there is no way back
    for proxy in $proxies; do
        reload_proxy "${proxy#* }" ||
            say "notice: $(name_of "${proxy#* }") was not reloaded; requests may wait for an address that is gone"
    done
    accept_all_connections || say "notice: this server's iptables fails; the next rollout tries again"
}

reload_proxy() { # CONTAINER: returns when its new workers have taken over
    before=$(workers_of "$1")
    logged docker exec "$1" nginx -s reload || return 1
    until after=$(workers_of "$1") && [ -n "$after" ] && ! printf '%s\n' "$after" | grep -qxF -e "$before"; do
        clock
        [ "$now" -lt "$deadline" ] || return 1
        sleep 0.05
    done
    say "reloaded $(name_of "$1")"
}

workers_of() ( # CONTAINER: the ids of nginx's processes that take requests
    set +f
    # As this server shows them, which takes a tenth of what it takes to ask Docker.
    shown=$(grep -lszxF 'nginx: worker process' /proc/[0-9]*/cmdline | while IFS=/ read -r _ _ process _; do
        ! grep -qsF -- "$1" "/proc/$process/cgroup" || echo "$process"
    done)
    if [ -n "$shown" ]; then
        printf '%s\n' "$shown"
    else
        ask docker top "$1" -o pid,args | sed -n 's/^ *\([0-9]*\) .*nginx: worker process$/\1/p'
    fi
)

name_of() { # CONTAINER
    ask docker inspect --format '{{slice .Name 1}}' "$1" || printf '%s' "$1"
}
