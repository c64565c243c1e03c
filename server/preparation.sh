# shellcheck shell=sh
# The steps before anything is stopped: the server is checked, the script installed, the image pulled and tried.

MINIMAL_COMPOSE=2.20

check_tools() { # sets compose_version
    for tool in flock timeout curl awk sha256sum base64 docker; do
        command -v "$tool" >/dev/null || refuse "The server has no command '$tool'." 'Install it, then try again.'
    done
    if ! ask docker version --format '{{.Server.Version}}' >/dev/null; then
        if grep -q 'permission denied' "$log"; then
            fail "$(id -un) may not use Docker." \
                "As root:  usermod -aG docker $(id -un)   (On this server, the group docker is as good as root.)"
        fi
        fail 'The Docker Engine does not answer.' 'Start it, then try again.'
    fi
    compose_version=$(ask docker compose version --short) ||
        fail 'There is no Docker Compose v2 (docker compose version).'
    compose_version=${compose_version#v}
    printf '%s\n%s\n' "$MINIMAL_COMPOSE" "$compose_version" | sort -c -t . -k 1,1n -k 2,2n 2>>"$log" ||
        refuse "Docker Compose is $compose_version; $MINIMAL_COMPOSE or newer is needed."
    case $compose_version in
        5.2.0 | 5.2.0[!0-9]*)
            refuse 'Docker Compose 5.2.0 recreates services with volumes_from at every `up`.' 'Install another version.'
            ;;
    esac
}

step_install() {
    check_tools
    if [ "$compose_file_given" ]; then
        find_compose_file
        [ -w . ] || refuse "$(id -un) cannot write in $directory." 'Let the user of servers[].user own the directory.'
    else
        prepare_candidate
    fi
    [ ! -e .releve ] || [ -w .releve ] || refuse "$(id -un) cannot write in $directory/.releve."
    case $(sha256sum <"$0") in
        "$hash"*) ;;
        *) refuse "What arrived is not $script_name." 'Try again.' ;;
    esac
    mkdir -p .releve/bin
    chmod 700 .releve .releve/bin
    cat -- "$0" >".releve/bin/.$script_name.$$"
    mv -f -- ".releve/bin/.$script_name.$$" ".releve/bin/$script_name"
    keep_newest 5 .releve/bin
    say "Docker Compose $compose_version; $script_name is in place"
}

step_pull() { # [COMMAND …]
    date +%s >.releve/began
    prepare_candidate
    say "$compose_file can name $image"
    [ $# -eq 0 ] || check_dependencies
    find_dependants
    [ "$strategy" != rolling ] || refuse_two
    for dependant in $dependants; do say "notice: $dependant"; done
    if [ "$strategy" = in-place ]; then
        pull_image
        try_image "$@"
        return 0
    fi
    name_release
    keep_found
    pull_image
    name_assets "$@"
    # What fitted once fits again: same image, same settings.
    fits=$release_directory/mounts-$assets_name
    if [ ! -e "$fits" ]; then
        try_image "$@"
        sort -u -- "$scratch/mounts" >"$fits"
    fi
    if [ -n "$assets" ] && [ "$assets_from" = image ] && ! have_assets; then
        begin_staging
        take_assets_of_image
        say 'took the assets that the image holds'
        end_staging
    fi
    note_prepared
}

try_image() { # [COMMAND …]
    probe_image "$@"
    : >"$scratch/mounts"
    for asset in $assets; do check_asset "$asset"; done
    name_anonymous_volumes
    say "the image fits the service '$web'"
}
