# shellcheck shell=sh
# Whether a release serves: asked of its containers, and through the public address.

BLANK_LINE=$(printf '\r\n\r\nx')
BLANK_LINE=${BLANK_LINE%x} # between the headers and the body of an HTTP response

state_of() { # CONTAINER …: a line for each; when one changes, the container stopped or was started again
    ask docker inspect --format \
        '{{.Name}} {{.State.Status}}, restarts: {{.RestartCount}}, started: {{.State.StartedAt}}, image: {{.Image}}, process: {{.State.Pid}}' "$@"
}

addresses_of() { # CONTAINER: where this server reaches it
    networks=$(ask docker inspect --format \
        '{{println .HostConfig.NetworkMode}}{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$1") || return
    mode=${networks%%"$IFS"*}
    case $mode in
        host) echo 127.0.0.1 ;;
        container:*) addresses_of "${mode#container:}" ;;
        *) printf '%s\n' "${networks#"$mode"}" ;;
    esac
}

add_forwarded_headers() { # what the proxy of the public address sends: force_ssl answers with a redirect without it
    [ -n "$url" ] || return 0
    authority=${url#*://}
    names=$IFS$(printf '%s\n' "$headers" | cut -d : -f 1 | tr '[:upper:]' '[:lower:]')$IFS
    case $names in
        *"${IFS}host$IFS"*) ;;
        *) headers="${headers}Host: ${authority%%[/?#]*}$IFS" ;;
    esac
    case $names in
        *"${IFS}x-forwarded-proto$IFS"*) ;;
        *) headers="${headers}X-Forwarded-Proto: ${url%%://*}$IFS" ;;
    esac
}

request() { # [OPTION …] URL of a container: as the proxy would
    for header in $headers; do set -- --header "$header" "$@"; done
    # -q: not the user's curlrc.
    in_time curl -q --silent --globoff --http1.1 --noproxy '*' --max-time 5 "$@"
}

answers() { # ADDRESS: whether it answers as wanted; sets problem
    clock
    [ "$now" -lt "$deadline" ] || {
        problem=${problem:-there was no time left to ask it}
        return 1
    }
    target=http://$1:$port$path
    # The body is cut at 1 MiB.
    response=$(request --include "$target" | head -c 1048576)
    while :; do
        head=${response%%"$BLANK_LINE"*}
        body=${response#*"$BLANK_LINE"}
        case $head in 'HTTP/'*' 1'[0-9][0-9]*) response=$body ;; *) break ;; esac
    done
    case $head in
        'HTTP/'*' '*) ;;
        *)
            clock
            # A question that the deadline cut short says less than the answer before it.
            [ "$now" -ge "$deadline" ] && [ -n "$problem" ] || problem="no answer from $target"
            return 1
            ;;
    esac
    code=${head#* }
    code=${code%%[!0-9]*}
    if [ "$code" != "$wanted_status" ]; then
        location=$(printf '%s\n' "$head" | tr -d '\r' | sed -n 's/^[Ll]ocation: */, with a redirect to /p')
        problem="$target answers $code$location, not $wanted_status"
        return 1
    fi
    for string in $contains; do
        case $body in *"$string"*) continue ;; esac
        problem="$target answers $code, but without '$string'"
        return 1
    done
}

all_answer() { # CONTAINER …: whether each answers on one of its addresses
    for container in "$@"; do
        # Asking Docker takes longer than asking the application: once for as long as the container runs (note_state).
        case $located in
            "$container$IFS"?*) addresses=${located#*"$IFS"} ;;
            *)
                addresses=$(addresses_of "$container") || return 1
                [ -n "$addresses" ] || problem='its container has no address'
                located=$container$IFS$addresses
                ;;
        esac
        answered=''
        for address in $addresses; do
            ! answers "$address" || answered=yes
        done
        [ -n "$answered" ] || return 1
    done
}

find_containers() { # sets containers: those of the services; and web_containers
    there=$(project_containers) || fail 'docker ps failed.'
    containers='' web_containers=''
    for service in $services; do
        found=$(of_service "$there" "$service")
        [ -n "$found" ] || fail_with_logs "The service '$service' has no container."
        [ "$service" != "$web" ] || web_containers=$found
        containers=$containers${containers:+$IFS}$found
    done
}

note_state() { # of $containers, all of which must run, and the image: sets start; and processes, where this server shows them
    located=''
    [ -n "$wanted_id" ] || wanted_id=$(ask docker image inspect --format '{{.Id}}' "$repository@$digest") ||
        fail "$image is not on this server."
    start=$(each "$containers" state_of) || fail 'docker inspect failed.'
    down=$(printf '%s\n' "$start" | sed '/^[^ ]* running,/d')
    [ -z "$down" ] || fail_with_logs "Not running: $down"
    other=$(printf '%s\n' "$start" | sed "/, image: $wanted_id,/d; s/ .*//; s|^/||")
    [ -z "$other" ] || fail_with_logs "Another image than $image runs in: $other"
    processes=$(printf '%s\n' "$start" | sed -n 's/.*, process: \([1-9][0-9]*\)$/\1/p')
    # An Engine elsewhere, in a virtual machine for one, means other processes by these numbers.
    numbers=$processes$IFS
    for container in $containers; do
        grep -qsF -- "$container" "/proc/${numbers%%"$IFS"*}/cgroup" || processes=''
        numbers=${numbers#*"$IFS"}
    done
}

await_health() { # until each of $web_containers answers as wanted; not longer than one of $containers runs
    note_state
    problem='' # whatever was wrong with the old release
    ask_by=0
    until clock && next=$((now + POLL)) && worth_asking && each "$web_containers" all_answer; do
        clock
        [ "$now" -lt "$deadline" ] || fail_with_logs "'$web' does not answer as it should: $problem."
        still_running
        pause_until "$next"
    done
}

worth_asking() { # whether somebody listens on --port, as far as this server shows that: a quarter of the work of asking
    # Once a second in any case: a container may have a network that this server knows nothing of, as with gVisor.
    if [ "$now" -ge "$ask_by" ]; then
        ask_by=$((now + 100))
        return 0
    fi
    for process in $processes; do
        [ -r "/proc/$process/net/tcp" ] && [ -z "$(listeners "$process")" ] || return 0
    done
    [ -z "$processes" ]
}

still_running() { # since note_state
    ! processes_are_there || return 0
    state=$(each "$containers" state_of) || {
        # Docker had no time left to say so: that the time is over is what there is to say.
        clock
        [ "$now" -lt "$deadline" ] || return 0
        state='It is gone.'
    }
    [ "$state" = "$start" ] || fail_with_logs "A container stopped or was started again: $state"
}

processes_are_there() { # which costs nothing to ask; Docker is asked when one is gone, or they are not to be seen
    [ -n "$processes" ] || return 1
    for process in $processes; do [ -d "/proc/$process" ] || return 1; done
}

watch() { # for the time that app.health.settle gives: a release may turn healthy and die
    [ "$settle" -gt 0 ] || return 0
    clock
    watched_until=$((now + settle * 100))
    deadline=$((watched_until + 3000))
    answered_at=$now
    while [ "$now" -lt "$watched_until" ]; do
        sleep 0.2
        still_running
        if each "$web_containers" all_answer; then
            clock
            answered_at=$now
        else
            # One slow answer is none of a release that died.
            clock
            [ $((now - answered_at)) -lt "$PATIENCE" ] ||
                fail_with_logs "'$web' was healthy and no longer is: $problem."
        fi
    done
    say "watched it for $settle s"
}

POLL=5 # hundredths of a second between two questions whether it serves
PATIENCE=300 # hundredths of a second without a good answer, after which a release that was healthy counts as dead

fail_with_logs() { # MESSAGE: with the last lines of each service
    allow_more_time
    count=$(printf '%s\n' "$services" | wc -l)
    for service in $services; do
        logged docker compose logs --no-color --no-log-prefix --tail $((58 / count - 1)) "$service" ||
            complain "The log of '$service' cannot be read."
    done
    [ -z "$trial" ] || logged docker logs --tail 58 "$trial" || complain "The log of the container tried cannot be read."
    for file in $log_files; do log_file_of "$file"; done
    remedy=''
    [ "$strategy" != in-place ] ||
        remedy="Nothing is put back. To return to the previous release, set its tag and run \`pulumi up\`."
    fail "$1" "$remedy"
}

log_file_of() { # PATH in the containers of the first service: applications under a supervisor write files
    for container in $trial $(containers_of "$web"); do
        note_command "tail $1"
        # By a copy: the container may have stopped.
        ask docker cp -L "$container:$1" - | in_time tar -xO 2>>"$log" | tail -n 20 >>"$log" ||
            complain "The log file $1 cannot be read."
    done
}
