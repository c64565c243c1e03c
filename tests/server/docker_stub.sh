#!/bin/sh
# Stands for docker: records its command line, then answers from files in $STUBS, or as a server would where all is well.
# In one go: some calls run side by side.
printf 'docker\037%s\036' "$(printf '%s\037' "$@")" >>"$STUBS/record"

answer() { # NAME DEFAULT
    if [ -e "$STUBS/$1.answer" ]; then cat "$STUBS/$1.answer"; else printf '%s\n' "$2"; fi
}

# ------------------------------------------------------ what there is: a behaviour may say each of these in its own way

services() { # of the Compose file
    sed -n 's/^  \([a-z0-9-]*\):\( &[a-z]*\)\{0,1\}$/\1/p' docker-compose.yml
}

containers() { # a line for each of the project: SERVICE STATE ID. One a service, named after it
    if [ -e "$STUBS/project.answer" ]; then
        cat "$STUBS/project.answer"
        return
    fi
    for service in $(services); do printf '%s %s %s\n' "$service" "$(listed_state "$service")" "$service"; done
}

listed_state() { # ID: `created` from its making until it is started
    if grep -qxF -- "$1" "$STUBS/created" 2>/dev/null; then echo created; else echo running; fi
}

note_created() { # ID …
    for id; do printf '%s\n' "$id"; done >>"$STUBS/created"
}

note_started() { # ID …
    [ ! -e "$STUBS/created" ] || for id; do sed -i "/^$id\$/d" "$STUBS/created"; done
}

# Of the container with an id or name:
is_known() { :; }
name_of() { echo "shop-$1-1"; }
service_of() { echo "$1"; }
state_of() { answer state "running 0 today $(image_of "$1") 0"; } # STATUS RESTARTS STARTED IMAGE PROCESS [EXIT_CODE]
image_of() { # what it was before the Compose file named the image of the release
    if grep -q '@sha256:777' docker-compose.yml 2>/dev/null; then echo sha256:wanted; else answer running sha256:wanted; fi
}
image_name_of() { answer image-name registry.example:5000/shop/app:1.0; } # as the Compose file named it
mounts_of() { answer mounts 'bind||true|/app/public|/srv/public'; } # lines of TYPE|NAME|WRITABLE|DESTINATION|SOURCE
subpaths_of() { answer subpaths ''; }                               # lines of TARGET|SUBPATH
mode_of() { answer network shop_default; }
networks_of() { echo "shop_default $(answer address 127.0.0.1) $(service_of "$1") $(name_of "$1")"; } # lines of NAME ADDRESS ALIAS …

# ------------------------------------------------------------------------------------------------------ as JSON has it

text() { # TEXT: as a string
    case $1 in
        *[\\\"]*) printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')" ;;
        *) printf '"%s"' "$1" ;;
    esac
}

inspect() { # ID …: as `docker inspect` prints them
    status=0 before='['
    for id; do
        if is_known "$id"; then
            printf '%s' "$before"
            before=,
            container "$id"
        else
            printf 'Error: No such object: %s\n' "$id" >&2
            status=1
        fi
    done
    if [ "$before" = '[' ]; then echo '[]'; else echo ']'; fi
    return "$status"
}

container() { # ID
    IFS=' ' read -r state restarts started image process code <<EOT
$(state_of "$1")
EOT
    running=false
    [ "$state" != running ] || running=true
    printf '{"Id":%s,"Name":%s,"RestartCount":%s,"Image":"%s"' "$(text "$1")" "$(text "/$(name_of "$1")")" "$restarts" "$image"
    printf ',"State":{"Status":"%s","StartedAt":"%s","Pid":%s,"Running":%s,"ExitCode":%s}' \
        "$state" "$started" "$process" "$running" "${code:-0}"
    printf ',"Config":{"Image":%s,' "$(text "$(image_name_of "$1")")"
    printf '"Labels":{"com.docker.compose.service":%s}}' "$(text "$(service_of "$1")")"
    printf ',"Mounts":['
    mounts_of "$1" | list mount
    printf '],"HostConfig":{"NetworkMode":"%s","Mounts":[' "$(mode_of "$1")"
    subpaths_of "$1" | list subpath
    printf ']},"NetworkSettings":{"Networks":{'
    networks_of "$1" | list network
    printf '}}}'
}

list() { # FUNCTION: its JSON for each line of standard input
    separator=''
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        printf '%s' "$separator"
        separator=,
        "$1" "$line"
    done
}

mount() { # TYPE|NAME|WRITABLE|DESTINATION|SOURCE
    IFS='|' read -r type name writable destination source <<EOT
$1
EOT
    printf '{"Type":"%s","Source":%s,"Destination":%s,"RW":%s' "$type" "$(text "$source")" "$(text "$destination")" "$writable"
    [ -z "$name" ] || printf ',"Name":%s' "$(text "$name")"
    printf '}'
}

subpath() { # TARGET|SUBPATH
    printf '{"Type":"volume","Target":%s,"VolumeOptions":' "$(text "${1%%|*}")"
    if [ -n "${1#*|}" ]; then printf '{"Subpath":%s,"DriverConfig":{}}}' "$(text "${1#*|}")"; else printf 'null}'; fi
}

network() { # NAME ADDRESS ALIAS …; an address with colons is one of IPv6
    aliases=''
    address='' address6=''
    # shellcheck disable=SC2086  # words of a line
    set -- $1
    case ${2-} in *:*) address6=$2 ;; -) ;; *) address=${2-} ;; esac
    name=$1
    shift "$(($# < 2 ? $# : 2))"
    for alias; do aliases=$aliases${aliases:+,}$(text "$alias"); done
    printf '%s:{"IPAddress":"%s","GlobalIPv6Address":"%s","Aliases":[%s]}' "$(text "$name")" "$address" "$address6" "$aliases"
}

config() { # the arguments of `docker compose … config …`: the files in normal form, which takes Python a while the first time
    input=$STUBS/config.$$ given='' active='' environment=.env
    case " $* " in *' --profile * '* | *' --no-interpolate '*) active='*' ;; esac
    {
        while [ $# -gt 0 ]; do
            case $1 in
                -f)
                    given=yes
                    cat -- "$2"
                    printf '\n\036\n'
                    shift
                    ;;
                --project-directory) environment=$2/.env ;;
                --env-file) environment=$2 ;;
                -p)
                    printf 'name: %s\n\036\n' "$2"
                    shift
                    ;;
            esac
            shift
        done
        if [ -z "$given" ]; then
            for file in compose.yaml compose.yml docker-compose.yml docker-compose.yaml; do
                [ ! -e "$file" ] || { cat "$file" && printf '\n\036\n' && break; }
            done
            for file in compose.override.yml compose.override.yaml docker-compose.override.yml docker-compose.override.yaml; do
                [ ! -e "$file" ] || { cat "$file" && printf '\n\036\n' && break; }
            done
        fi
        [ -n "$active" ] || active=$(sed -n 's/^COMPOSE_PROFILES=//p' "$environment" 2>/dev/null)
        printf "x-active: '%s'\n\036\n" "$active"
    } >"$input"
    sum=$(sha256sum <"$input")
    form=$FORMS/${sum%% *}
    if [ ! -e "$form" ]; then
        "$PYTHON" -I "$NORMAL_FORM" <"$input" >"$form.$$" || return 1
        mv "$form.$$" "$form"
    fi
    cat "$form"
}

# ------------------------------------------------------------------------------------------------------------ the calls

# shellcheck source=/dev/null  # What a test wants to be otherwise.
if [ -e "$STUBS/behaviour" ]; then . "$STUBS/behaviour"; fi

case "$*" in
    'compose create '*--remove-orphans) ;;
    'compose create '*) for word; do case $word in compose | create | missing | -*) ;; *) note_created "$word" ;; esac; done ;;
    'compose version'*) answer compose-version 2.26.1 ;;
    'version'*) answer version '26.1.5 Engine containerd runc docker-init' ;;
    'info'*) answer info '["name=seccomp,profile=builtin"] /var/lib/docker' ;;
    compose*' config --quiet') ;;
    compose*' config '*) config "$@" || exit ;;
    'compose up '*) for word; do case $word in missing | -*) ;; *) note_started "$word" ;; esac; done ;;
    'start '*)
        shift
        note_started "$@"
        ;;
    'ps '*label=releve.project=*) answer leftover '' ;;
    'ps '*'json .Names'*) # all of the server: lines of JSON, written by the test
        [ ! -e "$STUBS/placed.answer" ] || cat "$STUBS/placed.answer"
        ;;
    'ps '*'{{.State}}'*) containers ;;
    'ps '*) # the ids of one service
        for word in "$@"; do
            case $word in label=com.docker.compose.service=*) containers | sed -n "s/^${word##*=} [a-z]* //p" ;; esac
        done
        ;;
    'image inspect --format'*) answer image sha256:wanted ;;
    'image inspect'*) printf '[{"Id":"%s"}]\n' "$(answer image sha256:wanted)" ;;
    'inspect --format {{.Image}}'*) image_of "$4" ;;
    'inspect '*)
        shift
        inspect "$@" || exit
        ;;
    'import '*) cat >/dev/null ;;
    'wait '*) answer wait 0 ;;
    'context inspect'*) answer engine unix:///var/run/docker.sock ;;
esac
