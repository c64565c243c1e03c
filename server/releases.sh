# shellcheck shell=sh
# The releases that this server keeps, below .releve/releases, which of them is live, and the history of the rollouts.
#
#   releases/<tag>-<digest12>/  image        repository:tag@digest
#                               images       SERVICE=IMAGE_ID, of an installation that was found here
#                               compose.yml  the Compose file as deployed
#                               env          .env as deployed, where the configuration holds it
#                               assets-<hash12>/<n>/  what --asset number n consists of
#                               assets       which of these directories is published with it
#                               schema       the last migration that had been run here when it was live
#                               tasks/       those done, by hash
#                               live         touched when it became the live one
#                               served-assets-<hash12>  it has served, with those settings
#                               containers-<hash12>     that `rolling` has made for it, with settings of that hash
#   current                     symbolic link to the live release
#   previous                    the same for the one before it, whose assets stay published
#   prepared                    the release that the last `pull` prepared

name_release() { # sets release_name and release_directory
    release_name=$release-$(printf '%s' "$hex" | cut -c 1-12)
    release_directory=.releve/releases/$release_name
    mkdir -p "$release_directory/tasks"
    printf '%s\n' "$image" >"$release_directory/image"
}

linked() { # current|previous: the name of that release, or nothing
    target=$(readlink ".releve/$1") || return 0
    [ ! -d ".releve/$target" ] || printf '%s\n' "${target#releases/}"
}

link_release() { # current|previous NAME
    ln -sfn "releases/$2" ".releve/$1.new"
    mv -fT -- ".releve/$1.new" ".releve/$1"
}

forget_live_release() { # a rollout that keeps none has replaced it: the next one records what it finds
    rm -rf -- .releve/current .releve/previous .releve/transaction
}

note_prepared() {
    printf '%s\n' "$release_name" >.releve/prepared
}

require_prepared() {
    prepared=$(cat .releve/prepared 2>/dev/null) || prepared='no release'
    [ "$prepared" = "$release_name" ] ||
        refuse "This server has been prepared for $prepared, not for $release_name: another run came in between." \
            'Prepare it again:  pulumi up --replace '\''**-pull'\'
}

keep_found() { # before the first rollout changes anything: what runs here, so that it can be restored like a release
    current=$(linked current)
    [ ! -d .releve/transaction ] || return 0
    there=$(project_containers) || fail 'docker ps failed.'
    running=$(for service in $services; do of_service "$there" "$service" running; done)
    # Nothing runs, or what runs is what this program started.
    [ -n "$running" ] || return 0
    found=$(each "$running" ask docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}={{.Image}}') ||
        fail 'docker inspect failed.'
    if [ -n "$current" ] && is_current_image; then return 0; fi
    release_found=found-$(date -u +%Y%m%dT%H%M%SZ)
    mkdir -p ".releve/releases/$release_found/tasks"
    printf '%s\n' "$found" >".releve/releases/$release_found/images"
    cp -p -- "$compose_file" ".releve/releases/$release_found/compose.yml"
    [ -z "$assets" ] || copy_live_assets "$release_found"
    echo assets-found >".releve/releases/$release_found/assets"
    : >".releve/releases/$release_found/live"
    link_release current "$release_found"
    say "recorded what runs here as $release_found"
}

is_current_image() { # whether all that was found runs the image of the live release
    if [ -f ".releve/releases/$current/images" ]; then
        [ "$found" = "$(cat ".releve/releases/$current/images")" ]
        return
    fi
    current_id=$(docker image inspect --format '{{.Id}}' "$(cat ".releve/releases/$current/image")" 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$found" | sed 's/^[^=]*=//' | sort -u)" = "$current_id" ]
}

keep_release() { # it serves: the new live one
    cp -p -- "$compose_file" "$release_directory/compose.yml"
    rm -f -- "$release_directory/env"
    [ ! -f "$scratch/environment" ] || cp -p -- .env "$release_directory/env"
    schema >"$release_directory/schema"
    [ -z "$assets" ] || printf '%s\n' "$assets_name" >"$release_directory/assets"
    : >"$release_directory/live"
    : >"$release_directory/served-$assets_name"
    current=$(linked current)
    [ -z "$current" ] || [ "$current" = "$release_name" ] || link_release previous "$current"
    link_release current "$release_name"
}

schema() { # names the last migration that was run here
    cat .releve/schema 2>/dev/null || echo none
}

prune_releases() { # all but the newest --keep-releases, the live one and the one before it
    # shellcheck disable=SC2012  # our own names, by time
    kept=$(set +f && cd .releve/releases && ls -1t -- */live | sed 's|/live$||' | head -n "$keep_releases")
    kept=$IFS$kept$IFS$(linked current)$IFS$(linked previous)$IFS
    for old in $(cd .releve/releases && find . ! -name . -prune -type d | sed 's|^\./||'); do
        case $kept in *"$IFS$old$IFS"*) continue ;; esac
        old_image=$(cat ".releve/releases/$old/image" 2>/dev/null) || old_image=''
        remove_directory ".releve/releases/$old" || fail "The files of the release $old cannot be removed."
        [ -z "$old_image" ] || remove_image "$old_image"
        say "removed the release $old"
    done
}

remove_image() { # REPOSITORY:TAG@DIGEST, that this program pulled; Docker refuses where a container uses it
    if (set +f && cat .releve/releases/*/image 2>/dev/null) | grep -qF "${1#*@}"; then return 0; fi
    without_digest=${1%@*}
    for reference in "$without_digest" "${without_digest%:*}@${1#*@}"; do
        if ask docker image inspect --format '{{.Id}}' "$reference" >/dev/null; then
            logged docker rmi "$reference" || say "notice: the image $reference is in use, and stays"
        fi
    done
}

remove_directory() { # PATH: of ours, which may hold files that a container's user owns
    rm -rf -- "$1" 2>/dev/null || {
        container_files remove --entrypoint sh "$repository@$digest" -c 'rm -rf -- "/releve/$1"' sh "${1#.releve/}" && rm -rf -- "$1"
    }
}

record() { # RESULT: a line of history
    recorded=yes
    failed_in=$(cat "$scratch/phase" 2>/dev/null) || failed_in=$step
    finished=$(date +%s)
    began=$(cat .releve/began 2>/dev/null) || began=$finished
    printf '{"start":"%s","end":"%s","result":"%s","release":"%s","digest":"%s","previous":"%s"' \
        "$(timestamp "$began")" "$(timestamp "$finished")" "$1" "$release" "$digest" "$previous" >"$scratch/history"
    printf ',"step":"%s","phase":"%s","actor":"%s","seconds":%d,"downtime":%s}\n' \
        "$step" "$failed_in" "$actor" $((finished - began)) "$(if [ -n "$downtime" ]; then seconds "$downtime"; else echo null; fi)" \
        >>"$scratch/history"
    # In one go: a line is whole or not there.
    cat -- "$scratch/history" >>.releve/history.jsonl
}

timestamp() { # SECONDS since 1970
    date -u -d "@$1" +%FT%TZ
}
