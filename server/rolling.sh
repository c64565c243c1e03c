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
    started=''
    sort_containers "$made"
    accept_all_connections || fail "The proxy refuses connections since a run that was killed: this server's iptables fails." \
        'Nothing was stopped. Restart the proxy.'
    [ ! -e "$scratch/proxies" ] || proxies=$(cat -- "$scratch/proxies")
    [ -z "$stale" ] || guard_proxies
    begin_publishing
    [ -n "$fresh" ] || ! starts_at_once || begin_making
    clock
    started_at=$now
    [ -n "$fresh" ] || start_beside
    await_published
    [ -e "$scratch/proxies" ] || find_proxies "${fresh%%"$IFS"*}"
    # Before it listens: these would ask soon anyway, and turn to the old one meanwhile.
    show_proxies early
    sort_workers "$made"
    begin gate
    web_containers=$fresh
    containers=$fresh
    await_health
    note_boot
    hide_maintenance_page
    note_addresses
    say "'$web' answers $wanted_status on $path"
    begin up
    replace_workers
    warm_up
    let_in
    remove_unfit
    show_proxies late
    if [ "$settle" -gt 0 ] || ! starts_at_once; then
        await_workers
        sort_workers "$made"
        begin gate
        containers=$fresh${workers:+$IFS}$workers
        note_state
        watch
        begin up
        drain
        bring_up_whole
    else
        # Nothing is watched: the old container's end need not wait for the workers.
        drain look_at_public
        looking=$telling
        await_workers_made
        bring_up_whole
        await_workers
    fi
    find_containers
    note_state
    printf '%s\n' "$containers" >>"$made"
    note_addresses
    say "the services run $digest"
}

switch_back() { # the same for the old containers, of which some may never have stopped
    sort_containers .releve/transaction/containers
    accept_all_connections || complain "A proxy refuses connections: this server's iptables fails."
    there=${stale:-$fresh}
    [ -z "$stale$removed" ] || [ -z "$there" ] || find_proxies "${there%%"$IFS"*}"
    # They may believe for a while in what has been removed, and wait for it.
    [ -z "$removed" ] || tell_proxies
    if [ -n "$fresh" ]; then
        await_old_release "$fresh"
        remove_unfit
    else
        made=.releve/transaction/containers
        start_service
        begin gate
        await_old_release "$fresh"
        show_proxies early
        show_proxies late
    fi
    begin up
    drain
    sort_workers .releve/transaction/containers
    # The failed release's: whatever they answer, they go.
    (each "$leaving" quiet_workers) || :
    stop_workers
    remove_workers "$leaving${idle:+$IFS$idle}"
    bring_up_whole
}

sort_containers() { # FILE that lists those to keep: sets fresh and stale, the running containers of the first service, and removed
    fresh='' stale='' removed=''
    there=$(project_containers) || fail 'docker ps failed.'
    for container in $(of_service "$there" "$web"); do
        if ! of_service "$there" "$web" running | grep -qxF "$container" || is_listed "$container" .releve/refusing; then
            # It serves nobody, and Compose would start it again; or it was to be looked at first.
            logged docker rm -f "$container" || fail "The container $container cannot be removed."
            removed=yes
        elif is_listed "$container" "$1"; then
            fresh=$fresh${fresh:+$IFS}$container
        else
            stale=$stale${stale:+$IFS}$container
        fi
    done
}

is_listed() { # CONTAINER FILE
    grep -qxF -- "$1" "$2" 2>/dev/null
}

start_beside() {
    if needs_trial; then try_release; fi
    start_service
    [ -z "$stale" ] || shut_out || [ -z "$untried" ] ||
        fail "The proxies cannot be kept from the new container of '$web' until it is healthy."
}

needs_trial() { # Docker's DNS gives out a container from its start on: one that answers with errors would get requests. Sets
    # untried: whether nothing speaks for the release but its guards
    untried=''
    [ -n "$stale" ] && are_asked && [ ! -e "$release_directory/served-$assets_name" ] || return 1
    starts_slowly && can_refuse || return 0
    untried=yes
    return 1
}

are_asked() { # whether there is a proxy that finds new containers by itself
    [ -z "$proxies" ] || printf '%s' "$proxies" | grep -q '^asks'
}

starts_slowly() { # whether it took the application long enough, the last time, for the guards to know it before it listens
    [ -n "$proxies" ] && [ "$(cat .releve/boot 2>/dev/null || echo 0)" -ge "$LONG_BOOT" ]
}

note_boot() { # hundredths of a second from a container's start to its first good answer
    [ -z "$started" ] || printf '%d\n' $((now - started_at)) >.releve/boot
}

LONG_BOOT=40

shut_out() { # $fresh: no proxy connects to it until it is let in
    its_addresses=$(each "$fresh" addresses_in_networks) || fail 'docker inspect failed.'
    printf '%s\n' "$fresh" >>.releve/refusing
    for proxy in $proxies; do each "$its_addresses" refuse_connections "${proxy#* }" || return 1; done
}

let_in() {
    # First, because the next run would remove it from under its visitors.
    [ ! -e .releve/refusing ] || for container in $fresh; do forget_refused "$container"; done
    for proxy in $proxies; do
        ! is_listed "${proxy#* }" .releve/refusing || accept_connections "${proxy#* }" ||
            fail "$(name_of "${proxy#* }") refuses connections to the new container of '$web'."
    done
}

warm_up() { # an application loads a part of itself at its first request, and keeps others waiting: not visitors, then
    [ -n "$url" ] || return 0
    home=${url#*://}
    case $home in */*) home=/${home#*/} ;; *) home='' ;; esac
    for address in $addresses; do
        request --output /dev/null "http://$address:$port${home%/}/" || : # what it answers is looked at later
    done
}

try_release() { # in a container of the new release that nobody else finds
    await_published
    begin gate
    trial=$oneoff_name-trial
    note_command "docker compose run --name $trial $web"
    composed "$compose_file" run -d -T --no-deps --name "$trial" --label "releve.project=$directory" \
        --label "releve.release=$release" "$web" >>"$log" || fail "No container of '$web' can be started."
    containers=$trial
    web_containers=$trial
    await_health
    remove_oneoffs trial
    trial=''
    begin up
    say "tried '$web': it answers $wanted_status on $path"
}

start_service() { # sets fresh: one more container of the first service than $stale
    if starts_at_once; then
        [ -n "$making" ] || begin_making
        wait "$making" || exit 1 # it has said why
        making=''
        note_made "$stale" "$web"
        await_published
    else
        await_published
        logged docker compose up -d --no-recreate "$(one_more)" "$web" || fail "'$web' cannot be started."
        note_made "$stale" "$web"
    fi
    each "$new" logged docker start || fail_with_logs "The new container of '$web' cannot be started."
    fresh=$new
    clock
    started_at=$now
    started=yes
}

begin_making() { # it, in the background; it does not start yet (see compose_up)
    (logged docker compose create --no-recreate "$(one_more)" "$web" || fail "A new container of '$web' cannot be made.") &
    making=$!
}

one_more() { # as an option of Compose
    printf '%s=%s=%d' --scale "$web" $(($(printf '%s' "$stale" | grep -c .) + 1))
}

note_made() { # EARLIER SERVICE …: sets new, those containers that were not there EARLIER, and lists them in $made
    new='' before=$IFS$1$IFS
    shift
    for container in $(all_containers "$@"); do
        case $before in *"$IFS$container$IFS"*) ;; *) new=$new${new:+$IFS}$container ;; esac
    done
    [ -n "$new" ] || fail "Compose has made no container of $(words "$@")."
    printf '%s\n' "$new" >>"$made"
}

sort_workers() { # FILE that lists those to keep, of the services after the first: sets workers to those that stay, leaving to the
    # others that run, idle to the others that do not, outdated to their services, and lacking to those that none stays of
    workers='' leaving='' idle='' outdated='' lacking=''
    there=$(project_containers) || fail 'docker ps failed.'
    for service in $services; do
        [ "$service" != "$web" ] || continue
        running=$(of_service "$there" "$service" "$RUNNING")
        staying='' others=''
        for container in $(of_service "$there" "$service"); do
            if ! printf '%s\n' "$running" | grep -qxF "$container"; then
                others=yes idle=$idle${idle:+$IFS}$container
            elif is_listed "$container" "$1"; then
                staying=$staying${staying:+$IFS}$container
            else
                others=yes leaving=$leaving${leaving:+$IFS}$container
            fi
        done
        workers=$workers${staying:+${workers:+$IFS}$staying}
        [ -n "$staying" ] || lacking=$lacking${lacking:+$IFS}$service
        [ -n "$staying" ] && [ -z "$others" ] || outdated=$outdated${outdated:+$IFS}$service
    done
}

RUNNING='running|restarting|paused' # states that end only when a container is told to stop

replace_workers() { # begins to, in the background
    [ -n "$outdated" ] || return 0
    (
        trap wait EXIT # nothing goes on behind a restore's back
        remove_workers "$idle"
        { each "$leaving" quiet_workers && stop_workers; } &
        stopping=$!
        # While the old ones end what they do. Not possible for one with a container_name, for example.
        new=''
        if starts_at_once && make_workers_beside; then each "$lacking" note_made "$leaving"; fi
        wait "$stopping" || exit 1 # it has said why
        # Not before: what is gone is not counted.
        remove_workers "$leaving"
        if starts_at_once && [ -n "$lacking" ] && [ -z "$new" ]; then
            each "$lacking" logged docker compose create --no-recreate ||
                fail "The containers of $(each "$lacking" words) cannot be made."
            each "$lacking" note_made ''
        fi
        : >"$scratch/workers-made"
        [ -z "$new" ] || each "$new" logged docker start ||
            fail_with_logs "The containers of $(each "$lacking" words) cannot be started."
    ) &
    replacing=$!
}

make_workers_beside() { # for each of $lacking as many again as run
    [ -n "$lacking" ] || return 1
    set --
    for service in $lacking; do
        count=$(of_service "$there" "$service" "$RUNNING" | wc -l)
        [ "$count" -eq 0 ] || set -- "$@" "--scale=$service=$((2 * count))"
    done
    each "$lacking" logged docker compose create --no-recreate "$@"
}

await_workers_made() { # they start, and Compose finds as many of them as it wants
    [ -n "$outdated" ] || return 0
    until [ -e "$scratch/workers-made" ]; do
        kill -0 "$replacing" 2>/dev/null || [ -e "$scratch/workers-made" ] || exit 1 # it has said why
        sleep 0.02
    done
}

await_workers() { # until the new ones have been started; never two at once
    [ -n "$outdated" ] || return 0
    wait "$replacing" || exit 1 # it has said why
    if [ -n "$lacking" ] && ! starts_at_once; then
        # A number can be given for a service only where it is meant, too; without one, Compose would make it what it was.
        each "$lacking" logged docker compose up -d --no-recreate "--scale=$web=$(all_containers "$web" | wc -l)" "$web" ||
            fail "$(each "$lacking" words) cannot be started."
        each "$lacking" note_made ''
    fi
    say "stopped $(each "$outdated" words), and started anew"
}

stop_workers() { # those of $leaving
    [ -z "$leaving" ] || each "$leaving" logged docker stop || fail "$(each "$outdated" words) cannot be stopped."
}

remove_workers() { # LIST
    [ -z "$1" ] || each "$1" logged docker rm || fail "The containers of $(each "$outdated" words) cannot be removed."
}

quiet_workers() { # CONTAINER …: what they have begun, they may end before they are stopped
    [ -n "$worker_quiet" ] || return 0
    for container in "$@"; do
        each "$worker_quiet" logged docker exec "$container" || restarts "$container" ||
            fail "$(name_of "$container") cannot be told to take no more work (app.workerQuiet)."
    done
}

restarts() { # CONTAINER: whether it has just ended, by itself, and is to be started again
    [ "$(ask docker inspect --format '{{.State.Status}}' "$1")" = restarting ]
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

look_at_public() {
    begin verify
    check_public
}

drain() { # [COMMAND]: $stale: requests in flight have the service's stop_grace_period. In the background the proxies are told,
    # and COMMAND follows
    [ -n "$stale" ] || return 0
    lead_proxies_away
    each "$stale" await_accepted
    each "$stale" logged docker stop || fail "The old container of '$web' cannot be stopped."
    (
        tell_proxies
        dismiss_guards
        "$@"
    ) &
    telling=$!
    each "$stale" logged docker rm || fail "The old container of '$web' cannot be removed."
    stale=''
    say "the old container of '$web' is gone"
}
