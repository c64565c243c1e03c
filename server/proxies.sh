# shellcheck shell=sh
# The nginx that passes requests to the first service: how it learns of a new container, and that an old one is gone.
#
# One that asks Docker's DNS again every few seconds finds a new container by itself. One whose configuration names the
# service literally looks it up when it reads its configuration: at a reload. After a container's end both are reloaded,
# because an address that nobody has any more is not refused but waited for.

MOST_PATIENCE=5 # seconds: nginx with a longer memory than this is reloaded rather than waited for
UNKNOWN_PROXY=2 # seconds in which a proxy that is no nginx should have found a new container

# What an nginx does with the names in ENVIRON["names"], from its whole configuration: prints nothing when it passes no
# requests to any of them; `reload`; or the seconds after which it asks for them again.
ASKS='
    function seconds_of(text) {
        if (text ~ /ms$/) return 1
        if (text ~ /m$/) return 60 * text
        if (text ~ /[hdwMy]$/) return 3600 * text
        return text + 0
    }
    BEGIN {
        count = split(ENVIRON["names"], list, "\n")
        for (i = 1; i <= count; i++) {
            gsub(/\./, "[.]", list[i])
            name = name (i > 1 ? "|" : "") list[i]
        }
        name = "(" name ")"
        memory = -1
    }
    { sub(/(^|[ \t])#.*/, "") }
    /^[ \t]*resolver[ \t]/ && match($0, /valid=[0-9]+[a-zA-Z]*/) { memory = seconds_of(substr($0, RSTART + 6, RLENGTH - 6)) }
    $0 ~ "_pass[ \t]+([a-z]+://)?" name "[:/;]" || $0 ~ "(^|[{; \t])server[ \t]+" name "[:; \t]" {
        if ($0 ~ /[ \t]resolve[ \t;]/) asked = 1
        else once = 1
        next
    }
    # In a variable, or in a map that gives one.
    $0 ~ "[ \t\"/]" name "[:/;\" \t]" && !/server_name/ { asked = 1 }
    END {
        if (once || asked && (memory < 0 || memory > ENVIRON["most"])) print "reload"
        else if (asked) print memory
    }'

find_proxies() { # CONTAINER of the first service: sets proxies, a line CONTAINER|reload|NETWORK or CONTAINER|SECONDS|NETWORK
    # for each. Fails
    # where one could not be reloaded, before anything depends on it.
    proxies=''
    reach=$(ask docker inspect --format '{{range $name, $network := .NetworkSettings.Networks}}{{println "network" $name}}{{
        range $network.Aliases}}{{println "name" .}}{{end}}{{end}}' "$1") || fail 'docker inspect failed.'
    networks=$IFS$(printf '%s\n' "$reach" | sed -n 's/^network //p')$IFS
    # A container's id is one of its names; that of its service always.
    names=$(printf '%s\n' "name $web" "$reach" | sed -n 's/^name //p' | sort -u |
        while IFS= read -r name; do case $1 in "$name"*) ;; *) printf '%s\n' "$name" ;; esac; done)
    running=$(ask docker ps -q --no-trunc) || fail 'docker ps failed.'
    found=$(each "$running" ask docker inspect --format \
        '{{range $name, $_ := .NetworkSettings.Networks}}{{$.Id}}|{{$name}}|{{$.Path}} {{$.Args}} {{$.Config.Image}}{{println}}{{end}}') ||
        fail 'docker inspect failed.'
    for line in $found; do
        container=${line%%|*}
        network=${line#*|}
        network=${network%%|*}
        case $networks in *"$IFS$network$IFS"*) ;; *) continue ;; esac
        case $line in *nginx*) ;; *) continue ;; esac
        case $proxies in *"$container"*) continue ;; esac
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
        memory=$(printf '%s\n' "$configuration" | names=$names most=$MOST_PATIENCE awk "$ASKS")
        [ -z "$memory" ] || proxies="$proxies$container|$memory|$network$IFS"
        [ "$memory" != reload ] || unpin "$container" # what a killed run may have left
    done
    [ -n "$proxies" ] ||
        say "notice: no nginx was found that passes requests to '$web'; what does must find a new container within $UNKNOWN_PROXY s"
}

show_proxies() { # the new container, started at $started_at: returns when all of them have seen it
    patience=0
    [ -n "$proxies" ] || patience=$UNKNOWN_PROXY
    for proxy in $proxies; do
        case $proxy in
            *'|reload|'*) reload_proxy "${proxy%%|*}" ;;
            *)
                memory=${proxy#*|}
                memory=${memory%|*}
                [ "$memory" -le "$patience" ] || patience=$memory
                ;;
        esac
    done
    [ "$patience" -gt 0 ] || return 0
    # What was asked just before the start is believed for all of that time.
    until clock && [ "$now" -gt $((started_at + patience * 100 + 20)) ]; do sleep 0.05; done
}

tell_proxies() { # that a container is gone, whatever becomes of it: there is no way back
    for proxy in $proxies; do
        container=${proxy%%|*}
        logged docker exec "$container" nginx -s reload ||
            say "notice: $(name_of "$container") was not reloaded; requests may wait for an address that is gone"
    done
}

# Names in a container's own /etc/hosts come before those of Docker's DNS, which gives out a container until its end. The
# line is there for one reload; Docker writes the file anew whenever it starts the container.
PIN='printf "%s # releve\n" "$1" >>/etc/hosts'
UNPIN='! grep -q "# releve$" /etc/hosts || { hosts=$(sed "/# releve$/d" /etc/hosts) && printf "%s\n" "$hosts" >/etc/hosts; }'

lead_proxies_away() { # CONTAINER of the first service: to it alone, for those that look the name up once
    for proxy in $proxies; do
        case $proxy in *'|reload|'*) ;; *) continue ;; esac
        container=${proxy%%|*}
        address=$(ask docker inspect --format "{{with index .NetworkSettings.Networks \"${proxy##*|}\"}}{{.IPAddress}}{{end}}" "$1") ||
            fail 'docker inspect failed.'
        [ -n "$address" ] || continue
        if logged docker exec --user 0 "$container" sh -c "$PIN" sh "$address $(each "$names" words)"; then
            reload_proxy "$container"
            unpin "$container"
        fi
    done
}

unpin() { # CONTAINER
    logged docker exec --user 0 "$1" sh -c "$UNPIN" || say "notice: look into /etc/hosts of $(name_of "$1")"
}

reload_proxy() { # CONTAINER: returns when its new workers have taken over
    before=$(workers_of "$1")
    logged docker exec "$1" nginx -s reload || fail "$(name_of "$1") cannot be reloaded."
    until after=$(workers_of "$1") && [ -n "$after" ] && ! printf '%s\n' "$after" | grep -qxF -e "$before"; do
        clock
        [ "$now" -lt "$deadline" ] || fail "$(name_of "$1") does not reload."
        sleep 0.05
    done
    say "reloaded $(name_of "$1")"
}

workers_of() { # CONTAINER: the ids of nginx's processes that take requests
    ask docker top "$1" -o pid,args | sed -n 's/^ *\([0-9]*\) .*nginx: worker process$/\1/p'
}

name_of() { # CONTAINER
    ask docker inspect --format '{{slice .Name 1}}' "$1" || printf '%s' "$1"
}
