# shellcheck shell=sh
# The project's containers, and what a container of the new image would be like.

containers_of() ( # SERVICE [OPTION …]: the ids that `docker ps` gives, one-off containers left out
    of=$1
    shift
    ask docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project_name" \
        --filter "label=com.docker.compose.service=$of" --filter label=com.docker.compose.oneoff=False "$@"
)

project_containers() { # a line for each of the project, one-off containers left out: SERVICE STATE ID
    ask docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project_name" \
        --filter label=com.docker.compose.oneoff=False --format '{{.Label "com.docker.compose.service"}} {{.State}} {{.ID}}'
}

of_service() { # CONTAINERS as above, SERVICE [STATE or pattern of states]: their ids
    printf '%s\n' "$1" | awk -v service="$2" -v state="${3-.*}" '$1 == service && $2 ~ "^(" state ")$" { print $3 }'
}

all_containers() { # SERVICE …
    there=$(project_containers) || fail 'docker ps failed.'
    for service in "$@"; do of_service "$there" "$service"; done
}

check_dependencies() { # sets missing: the services on which the first one depends that have no container yet
    missing=''
    dependencies=$(printf '%s\n' "$project" | services=$services awk -F '\t' -v web="$web" '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] }
        $1 != web { next }
        $2 == "depends_on" && !($3 in ours) { needed[$3] }
        $3 == "condition: service_completed_successfully" { delete needed[substr($2, length("depends_on/") + 1)] }
        END { for (service in needed) print service }')
    there=$(project_containers) || fail 'docker ps failed.'
    for service in $dependencies; do
        if [ -z "$(of_service "$there" "$service")" ]; then
            missing=$missing${missing:+$IFS}$service
        elif [ -z "$(of_service "$there" "$service" running)" ]; then
            refuse "The service '$service', on which '$web' depends, is not running." \
                "Start it, then try again:  cd '$directory' && docker compose up -d --no-recreate $service"
        fi
    done
}

start_missing() { # [REMEDY]: what check_dependencies found missing
    for service in $missing; do
        # The first release on this server. What does not exist yet cannot be recreated by this.
        logged docker compose up -d --no-recreate --wait "$service" || fail "'$service' cannot be started." "${1-}"
        say "started $service"
    done
}

compose_up() { # SERVICE or OPTION: `docker compose up -d` with it, in two parts where that comes to the same. Between its
    # own two parts Compose looks only twice a second whether dependencies are healthy, with the old container stopped.
    if starts_at_once; then
        logged docker compose create "$1" || return 1
        case $1 in --*) made_for=$services ;; *) made_for=$1 ;; esac
        if start_created "$made_for"; then return 0; fi
    fi
    logged docker compose up -d "$1"
}

starts_at_once() { # whether the application's containers need nothing before their start that does not run already
    printf '%s\n' "$project" | services=$services awk -F '\t' '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] }
        $1 in ours && ($2 == "depends_on" && $3 in ours || $2 == "post_start" ||
            $3 == "condition: service_completed_successfully") { found = 1 }
        END { exit found }'
}

start_created() { # LIST of services: their containers; fails where another one than the application's has to be started
    down=$(ask docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project_name" \
        --filter label=com.docker.compose.oneoff=False --filter status=created --filter status=exited --filter status=dead \
        --format '{{.ID}} {{.Label "com.docker.compose.service"}}') || fail 'docker ps failed.'
    [ -n "$down" ] || return 0
    created=''
    for line in $down; do
        case $IFS$1$IFS in
            *"$IFS${line#* }$IFS"*) created=$created${created:+$IFS}${line%% *} ;;
            *) case $IFS$services$IFS in *"$IFS${line#* }$IFS"*) ;; *) return 1 ;; esac ;;
        esac
    done
    [ -z "$created" ] || each "$created" logged docker start
}

find_dependants() { # sets dependants: services that Compose recreates together with those of the application
    dependants=$(printf '%s\n' "$project" | services=$services awk -F '\t' '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] }
        $1 in ours { next }
        $2 == "volumes_from" || $2 == "links" { split($3, part, ":"); target = part[1] }
        $2 == "network_mode" || $2 == "pid" || $2 == "ipc" { target = $3; gsub(/^"?service:|"$/, "", target) }
        target in ours { print $1 " will be recreated, too: " $2 " " target }
        { target = "" }')
}

pull_with_login() { # with a client configuration for this one command; the user's own neither helps nor changes
    mkdir -- "$scratch/client"
    mv -- "$scratch/registry-login" "$scratch/client/config.json"
    # Which Engine it is, only the user's own configuration may know.
    engine=$(ask docker context inspect --format '{{.Endpoints.docker.Host}}') || fail 'docker context inspect failed.'
    logged docker --config "$scratch/client" --host "$engine" pull "$image" ||
        fail "The image $image cannot be pulled." \
            'Nothing was stopped. If the registry refuses: check registry.username and the secret registry.password.'
    rm -r -- "$scratch/client"
    say "pulled $image with the account of registry.username"
}

pull_image() {
    if ask docker image inspect --format '{{.Id}}' "$repository@$digest" >/dev/null; then
        say "$image is here already"
    elif [ -e "$scratch/registry-login" ]; then
        pull_with_login
    else
        logged docker pull "$image" || fail "The image $image cannot be pulled." "Nothing was stopped. If the registry
refuses: set registry.username and registry.password, or run \`docker login ${image%%/*}\` on this server as $(id -un)."
        say "pulled $image"
    fi
    # `docker image prune` deletes an image without a tag.
    logged docker tag "$repository@$digest" "${image%@*}" || fail 'docker tag failed.'
}

probe_image() { # [COMMAND …]: refuses when it is missing; sets mounts, and the subpaths of volumes in them, as the
    # containers of the first service have them
    status=0
    # Without --rm, so that it can be looked at.
    composed "$candidate" run -d -T --no-deps --name "$oneoff_name-probe" --label "releve.project=$directory" \
        --label "releve.release=$release" --entrypoint sh "$web" \
        -c '[ $# -eq 0 ] || command -v "$1" >/dev/null || exit 42' sh "$@" >>"$log" || status=$?
    # Read from the container, not from the Compose file: this includes the VOLUMEs of the image.
    mounts=$(ask docker inspect --format \
        '{{range .Mounts}}{{.Type}}|{{.Name}}|{{.RW}}|{{.Destination}}|{{.Source}}{{println}}{{end}}' "$oneoff_name-probe") ||
        fail "No container of '$web' can be made from the new image." 'Nothing was stopped.'
    subpaths=$(ask docker inspect --format \
        '{{range .HostConfig.Mounts}}{{.Target}}|{{json .VolumeOptions}}{{println}}{{end}}' "$oneoff_name-probe") ||
        fail 'docker inspect failed.' 'Nothing was stopped.'
    subpaths=$(printf '%s\n' "$subpaths" | sed -n 's/^\(.*|\).*"Subpath":"\([^"]*\)".*/\1\2/p')
    if [ "$status" -eq 0 ]; then
        status=$(ask docker wait "$oneoff_name-probe") || fail 'docker wait failed.'
    fi
    remove_oneoffs
    [ "$status" -ne 42 ] || refuse "The image $image has no command '$1' (app.precompile)." 'Nothing was stopped.'
    if [ "$status" -ne 0 ] && [ -n "$*$assets" ]; then
        fail "In a container of '$web' with the new image, \`sh\` does not run: the assets need it." \
            'Nothing was stopped.'
    fi
}

is_anonymous() { # TYPE NAME of a mount: Docker names such volumes itself, by 64 hexadecimal digits
    case $2 in *[!0-9a-f]*) return 1 ;; esac
    [ "$1" = volume ] && [ ${#2} -eq 64 ]
}

check_asset() { # PATH: what is compiled there must be there in the container that serves. Notes its mount in $scratch/mounts
    deepest='' type='' name='' writable='' source=''
    while IFS='|' read -r mount_type mount_name mount_writable mount_path mount_source; do
        case $1/ in "${mount_path%/}"/*) ;; *) continue ;; esac
        [ ${#mount_path} -gt ${#deepest} ] || continue
        deepest=$mount_path type=$mount_type name=$mount_name writable=$mount_writable source=$mount_source
    done <<EOT
$mounts
EOT
    remedy="Nothing was stopped. Add to the volumes of '$web' in the Compose file:  - ./${1##*/}:$1"
    case $type in
        bind | volume) ;;
        *) refuse "The asset path $1 is on no volume of '$web': what is compiled there would be lost." "$remedy" ;;
    esac
    if is_anonymous "$type" "$name"; then
        refuse "The asset path $1 is on the anonymous volume $deepest: what is compiled there would not reach '$web'." \
            "$remedy"
    fi
    [ "$writable" = true ] || refuse "The asset path $1 is mounted read-only in '$web'." \
        "Remove :ro from the volume $deepest."
    [ "$type" = bind ] || source=$name
    # The container was made as if the project were elsewhere, where its environment is not in place yet.
    case $source in "$view"/*) source=$directory${source#"$view"} ;; esac
    subpath=$(printf '%s\n' "$subpaths" | awk -F '|' -v target="$deepest" '$1 == target { print $2 }')
    printf '%s|%s|%s|%s\n' "$type" "$deepest" "$subpath" "$source" >>"$scratch/mounts"
}

name_anonymous_volumes() {
    while IFS='|' read -r mount_type mount_name _ mount_path _; do
        if is_anonymous "$mount_type" "$mount_name"; then
            say "notice: $mount_path is an anonymous volume: the new container $(if [ "$strategy" = rolling ]; then
                echo 'has what the image has there'
            else
                echo "keeps the old one's files there"
            fi)"
        fi
    done <<EOT
$mounts
EOT
}
