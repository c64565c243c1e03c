# shellcheck shell=sh
# The strategy `rolling`: the transaction of `staged`, in which the first service never stops. Its new container starts
# beside the old one, is looked at, found by the proxies and watched; only then the old one ends what it does, and goes.
#
#   releases/<r>/containers-<hash>   containers that were made for this release, with settings of that hash
#   transaction/containers           those that ran before

refuse_two() { # what keeps two containers of the first service from running side by side
    obstacle=$(printf '%s\n' "$project" | awk -F '\t' -v web="$web" '
        $1 != web { next }
        $2 == "container_name" { print "it has a container_name, which only one container can have.\tRemove that line." }
        $2 == "ports" { print "it publishes a port, which only one container can have.\tPut a proxy in front of it, and remove its ports." }
        $2 == "network_mode" { print "it has the network_mode " $3 ", where only one can listen.\tRemove that line, and put a proxy in front." }
        $2 == "deploy" && $3 ~ /^replicas: / && $3 != "replicas: 1" || $2 == "scale" && $3 != 1 {
            print "it has a number of replicas of its own.\tRemove deploy.replicas and scale: one container is what rolls." }
        $3 ~ /^(ipv4_address|ipv6_address|mac_address): / || $2 == "mac_address" {
            print "it has a fixed address, which only one container can have.\tRemove that line." }' | head -n 1)
    [ -z "$obstacle" ] || refuse_rolling "${obstacle%	*}" "${obstacle#*	}"
    [ -z "$dependants" ] ||
        refuse_rolling "$(printf '%s\n' "$dependants" | head -n 1), which interrupts it." \
            'Mount the volumes in both services, and reach the other one by its name, which needs no links.'
    require_memory
}

refuse_rolling() { # REASON REMEDY
    refuse "'$web' cannot be rolled: $1" "Nothing was stopped. $2 Or set app.strategy: staged."
}

require_memory() { # for a second container, as large as the first one is now
    running=$(containers_of "$web" --filter status=running) || fail 'docker ps failed.'
    [ -n "$running" ] || return 0
    used=$(each "$running" containers_memory)
    free=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    [ "$used" -lt "$free" ] || refuse_rolling \
        "a second container needs about $((used / 1024)) MiB, and only $((free / 1024)) MiB are free on the server." \
        'Give the server more memory.'
}

containers_memory() { # CONTAINER …: in KiB, pages that processes share counted for each
    for container in "$@"; do ask docker top "$container" -o pid,rss; done | awk '{ sum += $2 } END { printf "%d\n", sum }'
}

name_settings() { # sets made: the file that lists the containers made for this release
    made=$release_directory/containers-$(settings_of "$services" | sha256sum | cut -c 1-12)
}

switch_beside() { # the new containers in, and the old ones out
    name_settings
    sort_containers "$made"
    [ -z "$stale" ] || find_proxies "${stale%%"$IFS"*}"
    if [ -n "$fresh" ]; then
        clock
        started_at=$now
    else
        start_beside
    fi
    [ -n "$stale" ] || find_proxies "${fresh%%"$IFS"*}"
    begin gate
    web_containers=$fresh
    containers=$fresh
    await_health
    hide_maintenance_page
    note_addresses
    say "'$web' answers $wanted_status on $path"
    remove_unfit
    [ -z "$stale$proxies" ] || show_proxies
    begin up
    replace_workers "$made"
    begin gate
    containers=$fresh${workers:+$IFS}$workers
    note_state
    watch
    begin up
    drain
    bring_up_whole
    find_containers
    note_addresses
    say "the services run $digest"
}

switch_back() { # the same for the old containers, of which some may never have stopped
    sort_containers .releve/transaction/containers
    [ -z "$stale" ] || find_proxies "${stale%%"$IFS"*}"
    if [ -n "$fresh" ]; then
        await_old_release "$fresh"
        remove_unfit
    else
        made=.releve/transaction/containers
        start_service
        begin gate
        await_old_release "$fresh"
        show_proxies
    fi
    begin up
    drain
    replace_workers .releve/transaction/containers
    bring_up_whole
}

sort_containers() { # FILE that lists those to keep: sets fresh and stale, the running containers of the first service
    fresh='' stale=''
    all=$(containers_of "$web") || fail 'docker ps failed.'
    [ -n "$all" ] || return 0
    states=$(each "$all" ask docker inspect --format '{{.Id}} {{.State.Status}}') || fail 'docker inspect failed.'
    for state in $states; do
        container=${state%% *}
        case $state in
            *' running')
                if is_listed "$container" "$1"; then
                    fresh=$fresh${fresh:+$IFS}$container
                else
                    stale=$stale${stale:+$IFS}$container
                fi
                ;;
            *) # It serves nobody, and Compose would start it again.
                logged docker rm -f "$container" || fail "The container $container cannot be removed."
                ;;
        esac
    done
}

is_listed() { # CONTAINER FILE
    grep -qxF -- "$1" "$2" 2>/dev/null
}

start_beside() {
    # Docker's DNS gives out a container from its start on: one that answers with errors would get requests.
    if [ -n "$stale" ] && [ ! -e "$release_directory/served-$assets_name" ] && are_asked; then try_release; fi
    start_service
}

are_asked() { # whether there is a proxy that finds new containers by itself
    [ -z "$proxies" ] || printf '%s' "$proxies" | grep -qv '|reload|'
}

try_release() { # in a container of the new release that nobody else finds
    begin gate
    trial=$oneoff_name-trial
    note_command "docker compose run --name $trial $web"
    composed "$compose_file" run -d -T --no-deps --name "$trial" --label "releve.project=$directory" \
        --label "releve.release=$release" "$web" >>"$log" || fail "No container of '$web' can be started."
    containers=$trial
    web_containers=$trial
    await_health
    remove_oneoffs
    trial=''
    begin up
    say "tried '$web': it answers $wanted_status on $path"
}

start_service() { # sets fresh: one more container of the first service
    clock
    started_at=$now
    make_containers "$(($(printf '%s' "$stale" | grep -c .) + 1))"
    fresh=$new
}

make_containers() { # NUMBER [SERVICE …]: those that are missing, with NUMBER of the first service; lists them in $made; sets new
    number=$1
    # A number can be given for a service only where it is meant, too.
    shift
    set -- "$web" "$@"
    old=$IFS$(each "$services" all_containers)$IFS
    if starts_at_once; then # see compose_up
        logged docker compose create --no-recreate --scale "$web=$number" "$@" || fail "The containers of $(words "$@") cannot be made."
    else
        logged docker compose up -d --no-recreate --scale "$web=$number" "$@" || fail "$(words "$@") cannot be started."
    fi
    new=''
    for container in $(each "$services" all_containers); do
        case $old in *"$IFS$container$IFS"*) ;; *) new=$new${new:+$IFS}$container ;; esac
    done
    [ -n "$new" ] || fail "Compose has made no container of $(words "$@")."
    printf '%s\n' "$new" >>"$made"
    each "$new" logged docker start || fail_with_logs "The containers of $(words "$@") cannot be started."
}

replace_workers() { # FILE that lists those to keep: of the services after the first; never two at once. Sets workers
    workers='' outdated='' stale_workers=''
    there=$(project_containers) || fail 'docker ps failed.'
    for service in $services; do
        [ "$service" != "$web" ] || continue
        found=$(of_service "$there" "$service")
        keep=$found
        for container in $found; do is_listed "$container" "$1" || keep=''; done
        if [ -n "$keep" ]; then
            workers=$workers${workers:+$IFS}$keep
        else
            outdated=$outdated${outdated:+$IFS}$service
            stale_workers=$stale_workers${found:+${stale_workers:+$IFS}}$found
            running_workers=$(of_service "$there" "$service" running)
            each "$running_workers" quiet_workers
        fi
    done
    [ -n "$outdated" ] || return 0
    made=$1
    [ -z "$stale_workers" ] || each "$stale_workers" logged docker stop || fail "$(each "$outdated" words) cannot be stopped."
    [ -z "$stale_workers" ] || each "$stale_workers" logged docker rm ||
        fail "The containers of $(each "$outdated" words) cannot be removed."
    each "$outdated" make_containers "$(all_containers "$web" | wc -l)"
    workers=$workers${workers:+$IFS}$new
    say "replaced $(each "$outdated" words)"
}

quiet_workers() { # CONTAINER …: what they have begun, they may end before they are stopped
    [ -n "$worker_quiet" ] || return 0
    for container in "$@"; do
        each "$worker_quiet" logged docker exec "$container" ||
            fail "A container of '$service' cannot be told to take no more work (app.workerQuiet)."
    done
}

remove_unfit() { # those of $stale that a run left which did not come far enough to see them serve: stopped while it starts, an
    # application may hold the requests that it gets, and answer none
    fit=''
    for container in $stale; do
        if is_listed "$container" .releve/transaction/containers || each "$(targets_of "$container")" any_serves; then
            fit=$fit${fit:+$IFS}$container
        else
            logged docker rm -f "$container" || fail "The container $container cannot be removed."
            say "removed a container of '$web' that did not answer"
        fi
    done
    stale=$fit
}

drain() { # $stale, for $fresh: requests in flight have the service's stop_grace_period
    [ -n "$stale" ] || return 0
    lead_proxies_away "${fresh%%"$IFS"*}"
    each "$stale" logged docker stop || fail "The old container of '$web' cannot be stopped."
    tell_proxies
    each "$stale" logged docker rm || fail "The old container of '$web' cannot be removed."
    say "the old container of '$web' is gone"
}
