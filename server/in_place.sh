# shellcheck shell=sh
# The strategy `in-place`: the manual guide's order, with the site down from `stop` until the new version answers.

STOPPED='The services are stopped, and the Compose file names the new image. Put the cause right and run `pulumi up`
again, or set the tag back and run it: that brings the previous release up.'

step_stop() {
    prepare_candidate
    put_candidate_in_place
    each "$services" logged docker compose stop || fail 'The services cannot be stopped.'
    say "stopped $(each "$services" words)"
}

step_purge_assets() {
    require_release_set
    for asset in $assets; do set -- "$@" "$asset"; done
    # As root: the files belong to whoever compiled them. The directory itself stays, and keeps its owner.
    oneoff purge-assets --user 0:0 --entrypoint sh "$web" -c '
        for directory in "$@"; do
            [ ! -d "$directory" ] || (cd -- "$directory" && rm -rf -- ..?* .[!.]* *) || exit 1
        done' sh "$@" || fail 'The assets cannot be removed.' "$STOPPED"
    say "emptied $(each "$assets" words)"
}

step_precompile() {
    require_release_set
    check_dependencies
    start_missing "$STOPPED"
    oneoff precompile "$web" "$@" || fail "The command failed: $(words "$@")" "$STOPPED"
    say "done: $(words "$@")"
}

step_up() {
    require_release_set
    # The services alone, then the whole: the other way round Compose recreates what depends on them, nginx for one.
    each "$services" logged docker compose up -d || fail 'The services cannot be started.' "$STOPPED"
    logged docker compose up -d --remove-orphans || fail 'The project cannot be brought up as a whole.' "$STOPPED"
    say 'the project is up'
}

step_verify() {
    require_release_set
    add_forwarded_headers
    phase=gate
    find_containers
    await_health
    forget_live_release
    record released
    say "the services run $digest, and '$web' answers $wanted_status on $path"
}
