# shellcheck shell=sh
# The strategy `staged`: everything that takes long is done while the old release serves; then one transaction replaces
# it, and any failure in there puts the old one back.
#
#   transaction/  exists from before the first change until the new release is live or the old one is back
#     compose.yml, placed.yml   the Compose file as it was, and as this program left it
#     env, env-placed           .env as it was, if there was one; and that this program has replaced it
#     schema                    the last migration that had been run
#     dump                      the database was migrated; this file is what it was
#     started                   containers of the new release may have been started
#     containers                those that there were

MAINTENANCE_PAGE='<!doctype html>
<html lang="fr">
<meta charset="utf-8">
<title>Maintenance</title>
<h1>Maintenance</h1>
<p>Le site est mis à jour. Il revient dans quelques minutes.</p>
<p lang="en">The site is being updated and will be back in a few minutes.</p>
</html>'

step_precompile_staged() { # COMMAND …
    prepare_candidate
    name_release
    require_prepared
    name_assets "$@"
    if have_assets; then
        say "the assets of $release_name are here already"
        return 0
    fi
    begin_staging
    check_dependencies
    start_missing 'Nothing was stopped.'
    compile_assets "$@"
    say "compiled beside the running release: $(words "$@")"
    end_staging
}

step_up_staged() { # COMMAND …: that of precompile, which names the assets
    prepare_candidate
    name_release
    require_prepared
    name_assets "$@"
    [ -z "$assets" ] || have_assets ||
        refuse "The assets of $release_name are not here." 'Make them:  pulumi up --replace '\''**-pull'\'
    add_forwarded_headers
    [ "$strategy" != rolling ] || begin_finding_proxies
    current=$(linked current)
    previous=$current
    note_public_state
    note_old_health
    undo_interrupted_migration
    ask_pending
    begin_transaction
    measure_downtime
    status=0
    set +e
    (
        set -e
        trap end_background EXIT
        replace_release
    )
    status=$?
    set -e
    clock
    since=$now
    if [ "$status" -ne 0 ]; then
        reported=yes
        put_back
        exit 1
    fi
    stop_measuring
    commit
}

# --------------------------------------------------------------------------------------------------- the transaction

RESERVE=2097152 # bytes that a transaction holds, so that it can be put back on a disk that it has found full

begin_transaction() { # what a killed run began goes on: it knows what was there before
    remove_unfinished_dumps # of a killed run
    head -c "$RESERVE" /dev/zero >.releve/reserve 2>>"$log" || {
        rm -f -- .releve/reserve
        fail "There is no room on the disk of $directory." 'Nothing was stopped. Make room, then run `pulumi up` again.'
    }
    [ -d .releve/transaction ] || note_what_is_there
    [ -z "$finding" ] || wait "$finding" || {
        rm -f -- .releve/reserve
        reported=yes # why
        exit 1
    }
    [ -d .releve/transaction ] || mv -- .releve/transaction.new .releve/transaction
}

note_what_is_there() {
    rm -rf -- .releve/transaction.new
    mkdir -- .releve/transaction.new
    [ ! -e "$compose_file" ] || cp -p -- "$compose_file" .releve/transaction.new/compose.yml
    [ ! -e .env ] || cp -p -- .env .releve/transaction.new/env
    schema >.releve/transaction.new/schema
    each "$services" all_containers >.releve/transaction.new/containers
}

replace_release() {
    if [ "$pending" = yes ]; then
        if [ "$migrations" = stopped ]; then
            find_database
            begin stop
            show_maintenance_page
            each "$services" logged docker compose stop || fail 'The services cannot be stopped.'
            say "stopped $(each "$services" words)"
        fi
        begin dump
        dump_database "before-$release"
        begin migrate
        migrate_database
    fi
    run_tasks "$before_up"
    unpublished=${assets:+yes}
    if [ "$strategy" != rolling ]; then
        begin_publishing
        await_published
    fi
    begin up
    : >.releve/transaction/started
    put_environment
    put_candidate_in_place
    cp -p -- "$compose_file" .releve/transaction/placed.yml
    oneoff_file=$compose_file
    if [ "$strategy" = rolling ]; then switch_beside; else switch; fi
    begin verify
    if [ -n "$looking" ]; then wait "$looking" || exit 1; else check_public; fi
}

begin_publishing() { # in the background
    [ -n "$unpublished" ] || return 0
    unpublished=''
    begin publish
    publish "$(published_name)" &
    publishing=$!
    begin up
}

await_published() { # before anything of the new release starts
    [ -n "$publishing$publisher" ] || return 0
    begin publish
    if [ -n "$publisher" ]; then
        find_guard "$publisher"
        await_guard published || publish "$(published_name)"
    else
        wait "$publishing"
    fi || fail 'The assets cannot be published.'
    publishing='' publisher=''
    begin up
    say 'published the assets beside those of the old release'
}

switch() { # the new containers take the place of the old ones
    bring_up
    begin gate
    find_containers
    note_addresses
    await_health
    hide_maintenance_page
    say "the services run $digest, and '$web' answers $wanted_status on $path"
    watch
}

published_name() { # of this release's assets, below /releve, before it has become live
    printf '/releve/releases/%s/%s\n' "$release_name" "$assets_name"
}

bring_up() {
    # What others depend on first, then the whole: the other way round Compose recreates these, nginx for one.
    # The web service before the workers: it need not wait, stopped, until they have ended what they do.
    for service in "$web" $(needed_workers); do
        compose_up "$service" || fail "The service '$service' cannot be started."
    done
    bring_up_whole
}

bring_up_whole() {
    compose_up --remove-orphans || fail 'The project cannot be brought up as a whole.'
    say 'the project is up'
}

needed_workers() { # those of the application's services that others depend on, the first one left out
    # Compose adds to depends_on what links, volumes_from and network_mode need.
    printf '%s\n' "$project" | services=$services awk -F '\t' '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 2; i <= count; i++) worker[list[i]] }
        !($1 in worker) && $2 == "depends_on" && $3 in worker && !($3 in seen) { print $3; seen[$3] }'
}

commit() {
    begin up
    find_compose_file
    keep_release
    record released
    rm -rf -- .releve/transaction .releve/reserve
    if [ "$old_health" = none ] && [ -z "$current" ]; then
        say "$release_name serves; nothing served before"
        return 0
    fi
    over=''
    if [ -n "$downtime_budget" ] && [ "$downtime" -gt $((downtime_budget * 100)) ]; then
        over=", more than app.downtimeBudget allows ($downtime_budget s)"
    fi
    say "$release_name serves; the site did not answer for $(seconds "$downtime") s$over"
}

# ------------------------------------------------------------------------------------------------------- and its restore

note_old_health() { # sets old_health: what the old release must be again, should it be put back
    old_health=none located=''
    note_addresses
    web_containers=$(containers_of "$web" --filter status=running) || fail 'docker ps failed.'
    [ -n "$web_containers" ] || return 0
    begin gate
    if each "$web_containers" all_answer; then
        old_health=full
    else
        all_contains=$contains
        contains=''
        ! each "$web_containers" all_answer || old_health=status
        contains=$all_contains
    fi
}

put_back() { # the old release, or what was there; says what is so in the end
    failed_in=$(cat "$scratch/phase")
    rm -f -- .releve/reserve
    remove_unfinished_dumps
    complain '' "Putting back ${previous:-what was there before}."
    status=0
    set +e
    (
        set -e
        trap end_background EXIT
        restore
    )
    status=$?
    set -e
    printf '%s\n' "$failed_in" >"$scratch/phase"
    stop_measuring
    tell_about_database
    if [ "$status" -ne 0 ]; then
        record failed
        complain "It could not be put back. The next \`pulumi up\` tries again, for whichever release the tag says."
        return 0
    fi
    record restored
    rm -rf -- .releve/transaction
    if [ -n "$previous" ]; then
        complain "The release $previous was put back and serves. The site did not answer for $(seconds "$downtime") s."
    else
        complain 'What was there before was put back; nothing served.'
    fi
}

restore() {
    begin up
    await_engine
    remove_oneoffs
    put_files_back
    if may_restore_dump; then put_database_back; fi
    if [ -z "$previous" ]; then
        each "$services" logged docker compose rm --stop --force || fail 'The containers cannot be removed.'
        hide_maintenance_page
        return 0
    fi
    restore_images
    old_assets=$(assets_of "$previous")
    if [ -n "$assets" ] && [ -n "$old_assets" ]; then
        publish "$old_assets" || fail 'The assets of the old release cannot be published.'
    fi
    if [ "$strategy" = rolling ]; then
        switch_back
    else
        bring_up
        begin gate
        await_old_release "$(containers_of "$web" --filter status=running)"
    fi
    hide_maintenance_page
    if [ -n "$assets" ] && [ -n "$old_assets" ]; then
        begin purge
        purge "$previous" || complain 'The assets of the failed release stay until the next one.'
    fi
}

await_engine() { # it may be what failed
    until ask docker version --format '{{.Server.Version}}' >/dev/null; do
        clock
        [ "$now" -lt "$deadline" ] || fail 'The Docker Engine does not answer.'
        sleep 0.5
    done
}

put_files_back() {
    view=$directory
    find_compose_file
    if [ -f .releve/transaction/compose.yml ]; then
        if [ ! -f .releve/transaction/placed.yml ] || cmp -s -- .releve/transaction/placed.yml "$compose_file"; then
            replace_compose_file .releve/transaction/compose.yml
        else
            put_images_back
        fi
    elif [ -f .releve/transaction/placed.yml ]; then
        rm -f -- "$compose_file"
    fi
    put_environment_back
    oneoff_file=$compose_file
}

put_images_back() { # into a file that somebody has edited meanwhile: the edits stay
    image_before=$(cat ".releve/releases/$previous/image" 2>/dev/null) || image_before=''
    [ -n "$image_before" ] || fail "$compose_file was edited meanwhile; put the old image into it by hand."
    new_image=$image
    image=$image_before
    set_images "$compose_file" >"$scratch/put-back.yml" || fail "$(cat -- "$scratch/put-back.yml")"
    image=$new_image
    replace_compose_file "$scratch/put-back.yml"
}

restore_images() { # of an installation found here: its tags may name other images by now
    [ -f ".releve/releases/$previous/images" ] || return 0
    resolved=$(ask docker compose config) || fail "Docker Compose does not accept $directory/$compose_file."
    read_project "$resolved"
    while IFS='=' read -r service id; do
        reference=$(printf '%s\n' "$project" | awk -F '\t' -v service="$service" '$1 == service && $2 == "image" { print $3 }')
        case $reference in '' | *@*) continue ;; esac
        [ "$(ask docker image inspect --format '{{.Id}}' "$reference")" = "$id" ] ||
            logged docker tag "$id" "$reference" || fail "The image of '$service' is gone."
    done <".releve/releases/$previous/images"
}

await_old_release() { # CONTAINERS of its first service: as healthy as it was
    web_containers=$1
    [ -n "$web_containers" ] || fail_with_logs "'$web' does not run."
    note_addresses
    case $old_health in
        none) return 0 ;;
        status) contains='' ;;
    esac
    problem='' # whatever was wrong with the new one
    # It may be started again meanwhile, and elsewhere.
    until located='' && each "$web_containers" all_answer; do
        clock
        [ "$now" -lt "$deadline" ] || fail_with_logs "'$web' does not answer as it did: $problem."
        sleep 0.2
    done
}

may_restore_dump() { # nothing was written since: no container of the new release was started
    [ -f .releve/transaction/dump ] && [ -n "$restore_on_failure" ] && [ ! -e .releve/transaction/started ] &&
        [ -z "$backup_command" ] && [ ! -e .releve/transaction/dump-restored ]
}

put_database_back() {
    each "$services" logged docker compose stop || fail 'The services cannot be stopped.'
    find_database
    begin dump
    restore_dump "$(cat .releve/transaction/dump)" || fail 'The dump cannot be restored.'
    : >.releve/transaction/dump-restored
    cat -- .releve/transaction/schema >.releve/schema
    say 'restored the dump'
    begin up
}

undo_interrupted_migration() { # by a run that was killed, when the way is back to the old release
    if [ "$current" = "$release_name" ] && may_restore_dump; then put_database_back; fi
}

tell_about_database() {
    [ -f .releve/transaction/dump ] || return 0
    dump=$directory/$(cat .releve/transaction/dump)
    if [ -f .releve/transaction/dump-restored ]; then
        complain "The database is what it was before the migrations, from $dump."
    else
        complain "The database was migrated, or partly, and stays so. What it was before is in $dump"
    fi
}

# ---------------------------------------------------------------------------------------------- tasks, pages, and after

run_tasks() { # LIST of NUMBER:WORD, each command once a release
    for number in $(printf '%s\n' "$1" | sed -n 's/^\([0-9]*\):.*/\1/p' | sort -nu); do
        task=$(printf '%s\n' "$1" | sed -n "s/^$number://p")
        done_mark=$release_directory/tasks/$(printf '%s\n' "$task" | sha256sum | cut -c 1-12)
        if [ -e "$done_mark" ]; then
            say "done before: $(each "$task" words)"
            continue
        fi
        begin task
        each "$task" oneoff task "$web" || fail "The task failed: $(each "$task" words)"
        : >"$done_mark"
        say "done: $(each "$task" words)"
    done
}

show_maintenance_page() {
    [ -n "$maintenance_page" ] || return 0
    # For the proxy's own user to read.
    (
        umask 022
        if [ -f "$maintenance_page.template" ]; then
            cat -- "$maintenance_page.template"
        else
            printf '%s\n' "$MAINTENANCE_PAGE"
        fi >"$maintenance_page.releve-new"
    )
    mv -f -- "$maintenance_page.releve-new" "$maintenance_page"
}

hide_maintenance_page() {
    [ -z "$maintenance_page" ] || rm -f -- "$maintenance_page" "$maintenance_page.releve-new"
}

require_live() {
    name_release
    [ "$(linked current)" = "$release_name" ] ||
        refuse "$release_name is not live on this server: another run came in between." \
            'Roll it out again:  pulumi up --replace '\''**-pull'\'
}

step_after_up() {
    require_release_set
    require_live
    run_tasks "$after_up"
}

step_purge() {
    require_live
    begin purge
    if [ -n "$assets" ]; then
        assets_name=$(cat -- "$release_directory/assets")
        purge "$release_name" ||
            fail 'The assets of former releases cannot be removed.' 'The release serves; run `pulumi up` again.'
        remove_stale_assets
    fi
    prune_releases
    remove_directory .releve/staging || fail 'The staging directory cannot be removed.'
    say "kept: $(each "$(cd .releve/releases && find . ! -name . -prune -type d | sed 's|^\./||' | sort)" words)"
}
