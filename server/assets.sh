# shellcheck shell=sh
# Compiled assets: made beside the running release, kept with their release, published file by file, purged later.
#
# Files with a manifest's name tell the application where the others are: they are published last, each by a rename. The
# previous release's files stay, so that a page loaded before the switch finds its own.

# The program that copies release $1 into the directories $2 …, in a container that has the service's volumes.
PUBLISH='
    set -eu
    source=$1
    shift
    put() { # FILE: by a name of its own first, because readers must find it whole or not at all
        if [ ! -L "$1" ] && [ ! -L "$to/$1" ] && cmp -s -- "$1" "$to/$1"; then return 0; fi
        rm -rf -- "$to/$1.releve-new"
        cp -dp -- "$1" "$to/$1.releve-new"
        chown -h "$owner" "$to/$1.releve-new"
        mv -f -- "$to/$1.releve-new" "$to/$1"
    }
    number=0
    for to in "$@"; do
        mkdir -p -- "$to"
        owner=$(stat -c %u:%g -- "$to")
        cd -- "$source/$number"
        number=$((number + 1))
        find . -name "*.releve-new" -prune -o -type d ! -name . -print | while IFS= read -r directory; do
            [ -d "$to/$directory" ] || { mkdir -p -- "$to/$directory" && chown "$owner" "$to/$directory"; }
        done
        find . ! -type d ! -name "*manifest*.json" ! -name entrypoints.json -print | while IFS= read -r file; do
            put "$file"
        done
        find . ! -type d \( -name "*manifest*.json" -o -name entrypoints.json \) -print | while IFS= read -r file; do
            put "$file"
            # Of two manifests with random names Sprockets takes either: the new one replaces the old.
            case ${file##*/} in .sprockets-manifest-*) ;; *) continue ;; esac
            for other in "$to/${file%/*}"/.sprockets-manifest-*.json; do
                [ "$other" = "$to/${file%/*}/${file##*/}" ] || rm -f -- "$other"
            done
        done
    done'

# The program that removes from the directories $3 … what neither release $1 nor $2 (may be empty) consists of.
PURGE='
    set -eu
    this=$1 previous=$2
    shift 2
    number=0
    for from in "$@"; do
        if [ -d "$from" ]; then
            cd -- "$from"
            find . ! -type d -print | while IFS= read -r file; do
                for keep in "$this" $previous; do
                    if [ -e "$keep/$number/$file" ] || [ -L "$keep/$number/$file" ]; then continue 2; fi
                done
                rm -f -- "$file"
            done
        fi
        number=$((number + 1))
    done'

# The program that copies the directories $2 … into release $1.
COPY='
    set -eu
    target=$1
    shift
    number=0
    for from in "$@"; do
        mkdir -p -- "$target/$number"
        [ ! -d "$from" ] || cp -a -- "$from/." "$target/$number/"
        number=$((number + 1))
    done'

name_assets() { # COMMAND …: sets assets_name. They depend on the image, on what compiles them and on the service's settings
    assets_name=assets-$(
        {
            settings_of "$web"
            printf '%s\n' "$assets_from" "$assets" "$@"
        } | sha256sum | cut -c 1-12
    )
}

have_assets() { [ -d "$release_directory/$assets_name" ]; }

begin_staging() { # an empty directory for each asset path, in which any user of a container may write
    remove_directory .releve/staging || fail 'The staging directory of a former run cannot be removed.'
    mkdir -p .releve/staging
    number=0
    for asset in $assets; do
        mkdir -m 0777 -- ".releve/staging/$number"
        chmod 0777 -- ".releve/staging/$number" # whatever the umask
        number=$((number + 1))
    done
}

compile_assets() { # COMMAND …: with the new image, into the staging directory, while the old release serves
    overlay=$scratch/staging.json
    {
        # Where there is not enough of the processor for both, the running release gets four times as much of it.
        printf '{"services": {%s: {"cpu_shares": 256, ' "$(json "$web")"
        [ -z "$precompile_memory" ] || printf '"mem_limit": %s, "memswap_limit": %s, ' \
            "$(json "$precompile_memory")" "$(json "$precompile_memory")"
        printf '"volumes": ['
        number=0
        for asset in $assets; do
            [ "$number" -eq 0 ] || printf ', '
            printf '{"type": "bind", "source": %s, "target": %s}' \
                "$(json "$directory/.releve/staging/$number")" "$(json "$asset")"
            number=$((number + 1))
        done
        printf ']}}}\n'
    } >"$overlay"
    oneoff compile "$web" "$@" || fail "The command failed: $(words "$@")" 'Nothing was stopped.'
    overlay=''
}

take_assets_of_image() {
    holder=$(ask docker create --name "$oneoff_name-assets" --label "releve.project=$directory" \
        --label "releve.release=$release" "$repository@$digest" sh) || fail 'docker create failed.'
    number=0
    for asset in $assets; do
        logged docker cp -q "$holder:$asset/." ".releve/staging/$number" ||
            fail "The image has no directory $asset (app.assets, app.assetsFrom: image)." 'Nothing was stopped.'
        number=$((number + 1))
    done
    remove_oneoffs
}

end_staging() { # what was made is this release's from now on
    number=0
    for asset in $assets; do
        [ -n "$(ls -A -- ".releve/staging/$number")" ] ||
            fail "There is nothing in $asset after the compilation, so the site would have no assets." \
                'Nothing was stopped. Look at app.assets and app.precompile.'
        number=$((number + 1))
    done
    mv -- .releve/staging "$release_directory/$assets_name"
}

files_in_volumes() { # container_files|run_guard NAME PROGRAM ARGUMENT …: with what the assets are on
    runner=$1 name=$2 program=$3
    shift 3
    set -- --entrypoint sh "$repository@$digest" -c "$program" sh "$@"
    while IFS='|' read -r mount_type mount_path mount_subpath mount_source; do
        set -- --mount "$(mount_option "$mount_type" "$mount_source" "$mount_path" "$mount_subpath")" "$@"
    done <"$release_directory/mounts-$assets_name"
    "$runner" "$name" "$@"
}

container_files() { # NAME [OPTION …] IMAGE ARGUMENT …: as root, in a container that has /releve
    name=$1
    shift
    run_as_root "$name" --network none --mount "$(mount_option bind "$directory/.releve" /releve)" "$@"
}

mount_option() { # TYPE SOURCE TARGET [SUBPATH of a volume]: as `--mount` reads it, a line of CSV
    printf 'type=%s' "$1"
    for field in "source=$2" "target=$3" ${4:+"volume-subpath=$4"}; do
        printf ',"%s"' "$(printf '%s' "$field" | sed 's/"/""/g')"
    done
}

assets_of() { # RELEASE: the directory of its assets below /releve, or nothing
    kept_assets=$(cat ".releve/releases/$1/assets" 2>/dev/null) || return 0
    [ ! -d ".releve/releases/$1/$kept_assets" ] || printf '/releve/releases/%s/%s\n' "$1" "$kept_assets"
}

publish() { # DIRECTORY below /releve
    forget_purge "$1"
    each "$assets" files_in_volumes container_files publish "$PUBLISH" "$1"
}

forget_purge() { # DIRECTORY below /releve, which is about to be published
    grep -qxF -- "$1" .releve/purged 2>/dev/null || rm -f -- .releve/purged
}

copy_live_assets() { # RELEASE: into it, what a running container of the first service has
    running=$(containers_of "$web" --filter status=running | head -n 1)
    [ -n "$running" ] || return 0
    its_image=$(ask docker inspect --format '{{.Image}}' "$running") || fail 'docker inspect failed.'
    each "$assets" container_files adopt --volumes-from "$running:ro" --entrypoint sh "$its_image" \
        -c "$COPY" sh "/releve/releases/$1/assets-found" ||
        fail 'The published assets cannot be copied.' 'Nothing was stopped.'
}

purge() { # RELEASE: of what neither it nor the release before the live one consists of
    this=$(assets_of "$1")
    before=$(linked previous)
    [ -z "$before" ] || before=$(assets_of "$before")
    # Back and forth between the same two there is nothing to remove.
    kept_sets=$(printf '%s\n' "$this" "$before" | sort)
    [ "$kept_sets" != "$(cat .releve/purged 2>/dev/null)" ] || return 0
    each "$assets" files_in_volumes container_files purge "$PURGE" "$this" "$before" || return 1
    printf '%s\n' "$kept_sets" >.releve/purged
}

remove_stale_assets() { # of this release, made under other settings, for example another environment
    for stale in $(cd "$release_directory" && find . ! -name . -prune -type d -name 'assets-*' | sed 's|^\./||'); do
        [ "$stale" = "$assets_name" ] || remove_directory "$release_directory/$stale" || fail "$stale cannot be removed."
    done
}
