#!/bin/sh
# One step of a rollout, on a server that runs its application with Docker Compose. The only thing Relève runs there.
#
#   sh rollout.sh STEP --directory DIR --service NAME [--service NAME …] --timeout SECONDS [OPTION …] [-- COMMAND …]
#
#   install        checks the server and writes this script, given in RELEVE_SCRIPT, to DIR/.releve/bin/<--script-name>
#   pull           checks the project and pulls the image; stops nothing, and changes no file of the project
#   stop           sets the image of the services in the Compose file, and stops them
#   purge-assets   empties each --asset, in a container
#   precompile     runs COMMAND in a container of the first service
#   up             recreates the services, then brings up the whole project
#   verify         waits until the containers of the services run the image, and the first service answers as expected
#
#   all but install: --release TAG  --image REPOSITORY:TAG@sha256:DIGEST
#   pull, purge-assets: --asset PATH …      absolute, inside the containers of the first service
#   pull: -- COMMAND …                      the command of precompile, which the image must have
#   pull, stop: --input-follows             what is too long or too secret for an argument, on stdin, in lines:
#       compose-file BASE64                     the Compose file comes from the repository, its images already set
#       end                                     the last line: without it something is missing
#   install: --compose-file-follows         the same; the server needs none yet
#   verify: --port N --path /P --status N [--contains STRING …] [--header 'Name: value' …] [--url http://public.example]
#
# Exit status: 0 done; 1 failed or refused, the reason on stderr; 2 wrong usage. A step may be entered again half way.
# In DIR it changes the Compose file alone. Its own files, all in DIR/.releve (mode 0700):
#   bin/      the newest scripts                      lock      who works here
#   log/      one log a run; latest.log: the newest   children  held by the docker commands of whoever works here
#   compose/  Compose files as they were              tmp/      of the running step
# shellcheck disable=SC2016  # Single quotes: programs for awk and for containers, and commands named in messages.
set -euf
IFS='
' # Lists are values separated by line breaks, and no value holds one.
export LC_ALL=C
umask 077
# When the connection is cut, the step runs on to its end: half a rollout is worse than one nobody watches.
trap '' HUP PIPE

LOCK_WAIT=60 # seconds to wait for another step to end, if --timeout is not shorter
MINIMAL_COMPOSE=2.20
CANDIDATE=.releve-candidate.yml # the new Compose file, in the directory of the old one, before it takes its place
FILE_NAMES='compose.yaml
compose.yml
docker-compose.yml
docker-compose.yaml' # in the order in which Compose looks for them
OVERRIDE_NAMES='compose.override.yml
compose.override.yaml
docker-compose.override.yml
docker-compose.override.yaml'
STOPPED='The services are stopped, and the Compose file names the new image. Put the cause right and run `pulumi up`
again, or set the tag back and run it: that brings the previous release up.'
ESCAPE=$(printf '\033') # begins the colours of a terminal
BLANK_LINE=$(printf '\r\n\r\nx')
BLANK_LINE=${BLANK_LINE%x} # between the headers and the body of an HTTP response

# ---------------------------------------------------------------------------------------------------------- messages

clock() { # sets now, in hundredths of a second, from a clock that nobody can set
    IFS=' ' read -r uptime _ </proc/uptime
    now=${uptime%.*}${uptime#*.}
}

say() { # MESSAGE: one line of progress with the time it took. Never fails: without a listener the work goes on.
    clock
    took=$((now - since))
    since=$now
    printf '%s: %s (%d.%d s)\n' "$step" "$1" $((took / 100)) $((took % 100 / 10)) 2>/dev/null || :
}

complain() { # LINE …: the same for stderr
    reported=yes
    printf '%s\n' "$@" | fit >&2 2>/dev/null || :
}

fit() { # for a terminal, and for a protocol that takes valid UTF-8 only and hangs at lines over 64 KiB
    sed "s/$ESCAPE\[[0-9;]*[A-Za-z]//g" | cut -b 1-500 | tr -d '\000-\010\013-\037\177' |
        if command -v iconv >/dev/null; then iconv -c -f UTF-8 -t UTF-8; else tr -d '\200-\377'; fi
}

misuse() { # MESSAGE
    complain "rollout.sh: $1"
    exit 2
}

words() ( # WORD …: on one line
    IFS=' '
    printf '%s' "$*"
)

refuse() { # MESSAGE [REMEDY]
    complain "$step: $1"
    [ -z "${2-}" ] || complain "$2"
    exit 1
}

fail() { # MESSAGE [REMEDY]: the same with the end of the log, which says why
    clock
    complain "$step: $1"
    if [ "$now" -ge "$end" ]; then
        complain "The time allowed for this step, $timeout s, is over (app.stepTimeouts, or health.timeout for verify)."
    fi
    if [ -n "$log" ]; then
        lines=$(tail -c +$((log_start + 1)) -- "$log" | tail -n 60)
        [ -z "$lines" ] || complain "$lines"
        [ "$step" = install ] || complain "The whole log, on the server: $directory/$log"
    fi
    [ -z "${2-}" ] || complain "$2"
    exit 1
}

# ----------------------------------------------------------------------------------------------------------- commands

in_time() { # COMMAND …: runs it in what remains of the step's time; status 124 when that is over
    clock
    left=$(((deadline - now + 99) / 100))
    [ "$left" -gt 0 ] || return 124
    # It must not keep the lock when this script is killed.
    timeout -k 10 "$left" "$@" 9>&-
}

allow_more_time() { # to clean up, or to say what happened, after the step's own time
    clock
    deadline=$((now + 3000))
}

logged() { # COMMAND …: with its output in the log
    printf '+ %s\n' "$(words "$@")" >>"$log"
    in_time "$@" </dev/null >>"$log" 2>&1
}

ask() { # COMMAND …: with its errors in the log
    in_time "$@" </dev/null 2>>"$log"
}

composed() { # FILE ARGUMENT …: docker compose for the project as if FILE were its Compose file
    file=$1
    shift
    [ -z "$override" ] || set -- -f "$directory/$override" "$@"
    # By stdin: relative paths, .env and the project's name stay those of the directory, wherever FILE is.
    in_time docker compose --project-directory "$directory" -f - "$@" <"$file" 2>>"$log"
}

each() { # LIST COMMAND …: runs it once, with the values of the list appended
    list=$1
    shift
    for value in $list; do set -- "$@" "$value"; done
    "$@"
}

remove_oneoffs() { # what a killed run left would go on writing into the assets
    leftover=$(ask docker ps -aq --filter "label=releve.project=$directory") || fail 'docker ps failed.'
    for container in $leftover; do
        # Not done while its own --rm is at work; done when there is none any more.
        until logged docker rm -f -v "$container"; do
            clock
            [ "$now" -lt "$deadline" ] || fail "The one-off container $container cannot be removed."
            sleep 0.2
        done
    done
}

oneoff() { # [OPTION …] SERVICE ARGUMENT …: runs it in a container of its own, and leaves none
    (
        status=0
        # Without --no-deps, `run` may recreate the database.
        logged docker compose run -T --rm --no-deps --name "$oneoff_name" \
            --label "releve.project=$directory" --label "releve.release=$release" "$@" || status=$?
        if [ "$status" -ne 0 ]; then
            # `timeout` ends the client only. Not a `timeout` inside: entrypoints look at the command they are given.
            allow_more_time
            remove_oneoffs
        fi
        exit "$status"
    ) 9>&- # So this outlives a killed script.
}

keep_newest() { # NUMBER DIRECTORY: our own files, so their names are simple
    # shellcheck disable=SC2012  # `find` has no portable order by time.
    ls -1t -- "$2" | tail -n +$(($1 + 1)) | while read -r name; do rm -f -- "$2/$name"; done
}

# ------------------------------------------------------------------------------------------ the project's Compose file

first_of() { # NAME …: the first that exists, or nothing
    for name in "$@"; do
        if [ -e "$name" ] || [ -L "$name" ]; then
            printf '%s\n' "$name"
            return
        fi
    done
}

# shellcheck disable=SC2086  # The lists are split into their names.
find_compose_file() { # sets compose_file and override, as Compose itself would choose them
    compose_file=$(first_of $FILE_NAMES)
    override=$(first_of $OVERRIDE_NAMES)
    if [ -f .env ] && grep -Eq '^[[:space:]]*(export[[:space:]]+)?COMPOSE_FILE[[:space:]]*=' .env; then
        refuse "$directory/.env sets COMPOSE_FILE: which file holds the image lines is then not certain." \
            'Name the file docker-compose.yml, a second one docker-compose.override.yml, and remove COMPOSE_FILE.'
    fi
    if [ -z "$compose_file" ]; then
        [ "$compose_file_given" ] ||
            refuse "There is no Compose file in $directory." 'Put docker-compose.yml there, or set app.composeFile.'
        compose_file=docker-compose.yml
        return
    fi
    [ ! -L "$compose_file" ] ||
        refuse "$directory/$compose_file is a symbolic link; setting the image would replace it." \
            'Put the file itself there, or set app.directory to the directory that holds it.'
    if [ ! -f "$compose_file" ] || [ ! -r "$compose_file" ]; then
        refuse "$directory/$compose_file is not a file that $(id -un) can read."
    fi
}

refuse_parts() { # FILE: a file put together from others
    part=$(awk '{ sub(/\r$/, "") }
    /^["\047]?include["\047]? *:/ || /^ +["\047]?extends["\047]? *:/ {
        sub(/^ +/, "")
        print
        exit
    }' "$1")
    [ -z "$part" ] || refuse "The Compose file takes parts from elsewhere ($part), which may set the image." \
        'Write the services out in one file: `docker compose config --no-interpolate` prints them.'
}

set_images() { # FILE: prints it with the images of the services set, all other bytes as they are; or, status 1, why not
    final_break=$([ -n "$(tail -c 1 -- "$1")" ] || printf yes)
    services=$services awk -v image="$image" -v final_break="$final_break" '
        # A line oriented reading of block style YAML. It may misunderstand: compare_candidate asks Compose what it
        # makes of the file before and after.
        function has_content(i) { return line[i] !~ /^[ \t]*(#.*)?\r?$/ }
        function indent(i) { match(line[i], /^ */); return RLENGTH }
        function colon(i) { match(line[i], /:([ \t\r]|$)/); return RSTART }
        function key(i,   text) {
            text = substr(line[i], 1, colon(i) - 1)
            gsub(/^ +| +$/, "", text)
            if (text ~ /^".*"$/ || text ~ /^\047.*\047$/) text = substr(text, 2, length(text) - 2)
            return text
        }
        function value(i,   text) {
            text = substr(line[i], colon(i) + 1)
            sub(/^[ \t]+/, "", text)
            return text
        }
        function inside(i, parent) {
            return !has_content(i) || indent(i) > indent(parent) || \
                (indent(i) == indent(parent) && line[i] ~ /^ *-( |\r?$)/)
        }
        function child(parent, name,   i, depth) {
            depth = -1
            for (i = parent + 1; i <= NR && inside(i, parent); i++) {
                if (!has_content(i)) continue
                if (depth < 0) depth = indent(i)
                if (indent(i) == depth && key(i) == name) return i
            }
            return 0
        }
        function anchored(name, before,   i, word) {
            for (i = before; i > 0; i--) {
                if (!has_content(i) || !colon(i)) continue
                split(value(i), word, /[ \t\r]/)
                if (word[1] == "&" name) return i
            }
            return 0
        }
        # The image line of the mapping that begins at line i: its own, or that of the first merged mapping with one.
        function image_line(i, depth,   found, merge, text, j, name) {
            if (!i || depth > 10) return 0
            if (value(i) ~ /^\*/) { merge = i; text = value(i) }
            else {
                found = child(i, "image")
                if (found) return found
                merge = child(i, "<<")
                if (!merge) return 0
                text = value(merge)
                for (j = merge + 1; j <= NR && inside(j, merge); j++) if (has_content(j)) text = text " " line[j]
            }
            while (match(text, /\*[^] \t\r,]+/)) {
                name = substr(text, RSTART + 1, RLENGTH - 1)
                text = substr(text, RSTART + RLENGTH)
                found = image_line(anchored(name, merge), depth + 1)
                if (found) return found
            }
            return 0
        }
        function set(i,   old, new, start) {
            start = length(line[i]) - length(value(i)) + 1
            old = value(i)
            if (match(old, /^&[^ \t\r]+[ \t]+/)) { start += RLENGTH; old = substr(old, RLENGTH + 1) }
            new = image
            if (match(old, /^"[^"]*"/)) new = "\"" image "\""
            else if (match(old, /^\047[^\047]*\047/)) new = "\047" image "\047"
            else if (old ~ /^([|>!{&["\047]|#|\r?$)/) return 0
            else {
                sub(/[ \t]+#.*$/, "", old)
                sub(/[ \t\r]+$/, "", old)
                RLENGTH = length(old)
            }
            line[i] = substr(line[i], 1, start - 1) new substr(line[i], start + RLENGTH)
            return 1
        }
        function refuse(message) { print message; refused = 1; exit 1 }
        { line[NR] = $0 }
        END {
            if (refused) exit 1
            for (top = 1; top <= NR; top++) if (has_content(top) && indent(top) == 0 && key(top) == "services") break
            if (top > NR) refuse("It has no block `services:`.")
            count = split(ENVIRON["services"], service, "\n")
            for (s = 1; s <= count; s++) {
                start = child(top, service[s])
                if (!start) refuse("It has no service \047" service[s] "\047 (app.services), or not as a block.")
                at = image_line(start, 0)
                if (!at || !(at in done) && !set(at))
                    refuse("The service \047" service[s] "\047 has no image line that can be set: " \
                        "write `image: REPOSITORY:TAG` on one line below it.")
                done[at]
            }
            for (i = 1; i < NR; i++) print line[i]
            printf "%s%s", line[NR], (final_break ? "\n" : "")
        }' "$1"
}

normal_form() { # FILE: what Compose understands, in its own fixed shape; sets nothing, prints no secret to anyone
    composed "$1" config --no-interpolate || composed "$1" config # some variables stand where only a number may
}

facts() { # of a normal form on stdin: SERVICE<tab>KEY<tab>VALUE, a line for each scalar, list item and key of a mapping
    awk '
        function name(text) { gsub(/^ +|:.*$|"/, "", text); return text }
        /^[^ ]/ { services = /^services:/; next }
        !services { next }
        /^  [^ ]/ { service = name($0) }
        /^    [^ ]/ { key = name($0); text = $0; if (sub(/^[^:]*: /, "", text)) print service "\t" key "\t" text }
        /^      [^ ]/ { item = $0; sub(/^ +(- )?/, "", item); sub(/:$/, "", item); print service "\t" key "\t" item }
        /^        [^ ]/ { text = $0; sub(/^ +/, "", text); print service "\t" key "/" item "\t" text }'
}

without_extensions() { # a normal form on stdin; what x- sections say has had its effect
    awk '/^[^ ]/ { extension = /^"?x-/ } !extension'
}

with_wanted_images() { # a normal form on stdin, with the image of each service replaced
    services=$services awk -v image="$image" '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) wanted[list[i]] }
        /^[^ ]/ { services = /^services:/ }
        /^  [^ ]/ { service = $0; gsub(/^ +|:.*$|"/, "", service) }
        services && (service in wanted) && /^    image: / { $0 = "    image: " image }
        { print }'
}

explain_difference() { # EXPECTED ACTUAL: normal forms. Refuses.
    difference=$(
        {
            printf '%s\n' "$1" | facts
            echo
            printf '%s\n' "$2" | facts
        } | awk -F '\t' '!NF { actual = 1 } $2 != "image" { next } !actual { image[$1] = $3 }
            actual && image[$1] != $3 && !other { other = $1 }
            END { print other }'
    )
    for service in $services; do
        [ "$service" = "$difference" ] || continue
        refuse "After setting the image of '$service' in $compose_file, another one would still be used." \
            "Remove the image of '$service' from ${override:-the other places that set it}."
    done
    [ -z "$difference" ] ||
        refuse "Setting the image in $compose_file would change that of '$difference': an anchor carries it there." \
            "Give '$difference' an image line of its own, or name it in app.services."
    refuse "Setting the image in $compose_file would change more than images." \
        'Write image: REPOSITORY:TAG on a line of its own.'
}

images_are_wanted() { # FACTS
    for service in $services; do
        case $IFS$1$IFS in *"$IFS$service	image	$image$IFS"*) ;; *) return 1 ;; esac
    done
}

read_project() { # RESOLVED: `docker compose config`. Sets project to its facts, and project_name.
    project=$(printf '%s\n' "$1" | facts)
    project_name=$(printf '%s\n' "$1" | sed -n '1s/^name: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p')
}

prepare_candidate() { # sets candidate, the Compose file of this release; reads the project; refuses what is not safe
    candidate=$scratch/candidate.yml
    find_compose_file
    [ -w . ] || refuse "$(id -un) cannot write in $directory." 'Let the user of servers[].user own the directory.'
    [ -z "$override" ] || refuse_parts "$override"
    if [ "$compose_file_given" ]; then
        mv -- "$scratch/compose-file" "$candidate"
        refuse_parts "$candidate"
    else
        refuse_parts "$compose_file"
        set_images "$compose_file" >"$candidate" ||
            refuse "$directory/$compose_file is left as it is. $(cat -- "$candidate")"
        compare_candidate
    fi
    resolved=$(composed "$candidate" config) || fail 'Docker Compose does not accept the Compose file of this release.'
    read_project "$resolved"
    images_are_wanted "$project" ||
        refuse "The Compose file of this release does not give $(each "$services" words) the image $image." \
            "Remove the image from ${override:-the place that sets another one}."
}

compare_candidate() { # exactly the images of the services may differ
    before=$(normal_form "$compose_file") || fail "Docker Compose does not accept $directory/$compose_file."
    after=$(normal_form "$candidate") || fail "Docker Compose does not accept $compose_file with the new image."
    expected=$(printf '%s\n' "$before" | without_extensions | with_wanted_images)
    actual=$(printf '%s\n' "$after" | without_extensions)
    [ "$expected" = "$actual" ] || explain_difference "$expected" "$actual"
}

require_release_set() { # for the steps after stop; reads the project
    find_compose_file
    resolved=$(ask docker compose config) || fail "Docker Compose does not accept $directory/$compose_file."
    read_project "$resolved"
    images_are_wanted "$project" ||
        refuse "$directory/$compose_file no longer names $image: someone changed it meanwhile." \
            'Let it name that image again, then run `pulumi up`.'
}

put_candidate_in_place() {
    if [ -e "$compose_file" ]; then
        ! cmp -s -- "$candidate" "$compose_file" || return 0
        mkdir -p .releve/compose
        cp -- "$compose_file" ".releve/compose/$(date -u +%Y%m%dT%H%M%SZ)-before-$release.yml"
        keep_newest 20 .releve/compose
        # A copy of the old file first: for its mode, and its owner where this user may set that.
        cp -p -- "$compose_file" "$CANDIDATE"
    else
        (umask 022 && : >"$CANDIDATE")
    fi
    cat -- "$candidate" >"$CANDIDATE"
    mv -f -- "$CANDIDATE" "$compose_file"
    say "$compose_file names $image"
}

# ------------------------------------------------------------------------------------------------ images, containers

containers_of() ( # SERVICE [OPTION …]: the ids that `docker ps` gives, one-off containers left out
    of=$1
    shift
    ask docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project_name" \
        --filter "label=com.docker.compose.service=$of" --filter label=com.docker.compose.oneoff=False "$@"
)

check_dependencies() { # sets missing: the services on which the first one depends that have no container yet
    missing=''
    dependencies=$(printf '%s\n' "$project" | services=$services awk -F '\t' -v web="$web" '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] }
        $1 != web { next }
        $2 == "depends_on" && !($3 in ours) { needed[$3] }
        $3 == "condition: service_completed_successfully" { delete needed[substr($2, length("depends_on/") + 1)] }
        END { for (service in needed) print service }')
    for service in $dependencies; do
        all=$(containers_of "$service") || fail 'docker ps failed.'
        running=$(containers_of "$service" --filter status=running) || fail 'docker ps failed.'
        if [ -z "$all" ]; then
            missing=$missing${missing:+$IFS}$service
        elif [ -z "$running" ]; then
            refuse "The service '$service', on which '$web' depends, is not running." \
                "Start it, then try again:  cd '$directory' && docker compose up -d --no-recreate $service"
        fi
    done
}

name_dependants() { # services that Compose recreates together with those of the application
    dependants=$(printf '%s\n' "$project" | services=$services awk -F '\t' '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) ours[list[i]] }
        $1 in ours { next }
        $2 == "volumes_from" || $2 == "links" { split($3, part, ":"); target = part[1] }
        $2 == "network_mode" || $2 == "pid" || $2 == "ipc" { target = $3; gsub(/^"?service:|"$/, "", target) }
        target in ours { print $1 " will be recreated, too: " $2 " " target }
        { target = "" }')
    for dependant in $dependants; do say "notice: $dependant"; done
}

pull_image() {
    if ask docker image inspect --format '{{.Id}}' "$repository@$digest" >/dev/null; then
        say "$image is here already"
    else
        logged docker pull "$image" || fail "The image $image cannot be pulled." 'Nothing was stopped.'
        say "pulled $image"
    fi
    # `docker image prune` deletes an image without a tag.
    logged docker tag "$repository@$digest" "${image%@*}" || fail 'docker tag failed.'
}

probe_image() { # [COMMAND …]: refuses when it is missing; sets mounts, as the containers of the first service have them
    status=0
    # Without --rm, so that it can be looked at.
    composed "$candidate" run -d -T --no-deps --name "$oneoff_name" --label "releve.project=$directory" \
        --label "releve.release=$release" --entrypoint sh "$web" \
        -c '[ $# -eq 0 ] || command -v "$1" >/dev/null || exit 42' sh "$@" >>"$log" || status=$?
    # Read from the container, not from the Compose file: this includes the VOLUMEs of the image.
    mounts=$(ask docker inspect --format \
        '{{range .Mounts}}{{.Type}}|{{.Name}}|{{.RW}}|{{.Destination}}{{println}}{{end}}' "$oneoff_name") ||
        fail "No container of '$web' can be made from the new image." 'Nothing was stopped.'
    if [ "$status" -eq 0 ]; then
        status=$(ask docker wait "$oneoff_name") || fail 'docker wait failed.'
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

check_asset() { # PATH: what is compiled there must be there in the container that serves
    deepest='' type='' name='' writable=''
    while IFS='|' read -r mount_type mount_name mount_writable mount_path; do
        case $1/ in "${mount_path%/}"/*) ;; *) continue ;; esac
        [ ${#mount_path} -gt ${#deepest} ] || continue
        deepest=$mount_path type=$mount_type name=$mount_name writable=$mount_writable
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
}

name_anonymous_volumes() {
    while IFS='|' read -r mount_type mount_name _ mount_path; do
        if is_anonymous "$mount_type" "$mount_name"; then
            say "notice: $mount_path is an anonymous volume: the new container keeps the old one's files there"
        fi
    done <<EOT
$mounts
EOT
}

# ------------------------------------------------------------------------------------------------------- health gate

state_of() { # CONTAINER …: a line for each; when one changes, the container stopped or was started again
    ask docker inspect --format \
        '{{.Name}} {{.State.Status}}, restarts: {{.RestartCount}}, started: {{.State.StartedAt}}' "$@"
}

addresses_of() { # CONTAINER: where this server reaches it
    network=$(ask docker inspect --format '{{.HostConfig.NetworkMode}}' "$1")
    case $network in
        host) echo 127.0.0.1 ;;
        container:*) addresses_of "${network#container:}" ;;
        *) ask docker inspect --format '{{range .NetworkSettings.Networks}}{{println .IPAddress}}{{end}}' "$1" ;;
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

answers() { # ADDRESS: whether it answers as wanted; sets problem
    clock
    [ "$now" -lt "$deadline" ] || return 1
    target=http://$1:$port$path
    problem="no answer from $target"
    set -- "$target"
    for header in $headers; do set -- --header "$header" "$@"; done
    # -q: not the user's curlrc. The body is cut at 1 MiB.
    response=$(in_time curl -q --silent --include --globoff --http1.1 --noproxy '*' --max-time 5 "$@" | head -c 1048576)
    while :; do
        head=${response%%"$BLANK_LINE"*}
        body=${response#*"$BLANK_LINE"}
        case $head in 'HTTP/'*' 1'[0-9][0-9]*) response=$body ;; *) break ;; esac
    done
    case $head in 'HTTP/'*' '*) ;; *) return 1 ;; esac
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
        addresses=$(addresses_of "$container") || return 1
        answered=''
        for address in $addresses; do
            ! answers "$address" || answered=yes
        done
        [ -n "$answered" ] || return 1
    done
}

fail_with_logs() { # MESSAGE: with the last lines of each service
    allow_more_time
    count=$(printf '%s\n' "$services" | wc -l)
    for service in $services; do
        logged docker compose logs --no-color --no-log-prefix --tail $((58 / count - 1)) "$service" ||
            complain "The log of '$service' cannot be read."
    done
    fail "$1" "Nothing is put back. To return to the previous release, set its tag and run \`pulumi up\`."
}

# ------------------------------------------------------------------------------------------------------------- steps

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
    case $(printf '%s\n' "$script" | sha256sum) in
        "$hash"*) ;;
        *) refuse "What arrived is not $script_name." 'Try again.' ;;
    esac
    mkdir -p .releve/bin
    chmod 700 .releve .releve/bin
    printf '%s\n' "$script" >".releve/bin/.$script_name.$$"
    mv -f -- ".releve/bin/.$script_name.$$" ".releve/bin/$script_name"
    keep_newest 5 .releve/bin
    say "Docker Compose $compose_version; $script_name is in place"
}

step_pull() {
    prepare_candidate
    say "$compose_file can name $image"
    [ $# -eq 0 ] || check_dependencies
    name_dependants
    pull_image
    probe_image "$@"
    for asset in $assets; do check_asset "$asset"; done
    name_anonymous_volumes
    say "the image fits the service '$web'"
}

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
    oneoff --user 0:0 --entrypoint sh "$web" -c '
        for directory in "$@"; do
            [ ! -d "$directory" ] || (cd -- "$directory" && rm -rf -- ..?* .[!.]* *) || exit 1
        done' sh "$@" || fail 'The assets cannot be removed.' "$STOPPED"
    say "emptied $(each "$assets" words)"
}

step_precompile() {
    require_release_set
    check_dependencies
    for service in $missing; do
        # The first release on this server. What does not exist yet cannot be recreated by this.
        logged docker compose up -d --no-recreate --wait "$service" || fail "'$service' cannot be started." "$STOPPED"
        say "started $service"
    done
    oneoff "$web" "$@" || fail "The command failed: $(words "$@")" "$STOPPED"
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
    wanted_id=$(ask docker image inspect --format '{{.Id}}' "$repository@$digest") ||
        fail "$image is not on this server."
    for service in $services; do
        containers=$(containers_of "$service") || fail 'docker ps failed.'
        [ -n "$containers" ] || fail_with_logs "The service '$service' has no container."
        for container in $containers; do
            [ "$(ask docker inspect --format '{{.Image}}' "$container")" = "$wanted_id" ] ||
                fail_with_logs "A container of '$service' runs another image than $image."
            set -- "$@" "$container"
        done
    done
    start=$(state_of "$@") || fail 'docker inspect failed.'
    down=$(printf '%s\n' "$start" | sed '/^[^ ]* running,/d')
    [ -z "$down" ] || fail_with_logs "Not running: $down"
    web_containers=$(containers_of "$web") || fail 'docker ps failed.'
    problem='its container has no address'
    until each "$web_containers" all_answer; do
        state=$(state_of "$@") || state='It is gone.'
        clock
        [ "$now" -lt "$deadline" ] || fail_with_logs "'$web' does not answer as it should: $problem."
        [ "$state" = "$start" ] || fail_with_logs "A container stopped or was started again: $state"
        sleep 0.2
    done
    say "the services run $digest, and '$web' answers $wanted_status on $path"
}

# ---------------------------------------------------------------------------------------------- arguments, lock, log

set_option() { # OPTION VALUE
    case $2 in
        '') misuse "$1: the value is empty" ;;
        *"$IFS"*) misuse "$1: a line break cannot be part of a value" ;;
    esac
    case $1 in
        --directory) directory=${2%/} ;;
        --script-name) script_name=$2 ;;
        --release) release=$2 ;;
        --image) image=$2 ;;
        --service) services=$services${services:+$IFS}$2 ;;
        --timeout) timeout=$2 ;;
        --asset) assets=$assets${assets:+$IFS}${2%/} ;;
        --port) port=$2 ;;
        --path) path=$2 ;;
        --status) wanted_status=$2 ;;
        --contains) contains=$contains${contains:+$IFS}$2 ;;
        --header) headers=$headers$2$IFS ;;
        --url) url=$2 ;;
        *) misuse "unknown option '$1'" ;;
    esac
}

check_number() { # OPTION VALUE
    case $2 in '' | *[!0-9]* | 0*) misuse "$1: '$2' is not a whole number above 0" ;; esac
    [ ${#2} -le 6 ] || misuse "$1: '$2' is too large"
}

check_arguments() { # [COMMAND …]
    case $directory in /?*) ;; *) misuse "--directory: '$directory' is not an absolute path" ;; esac
    check_number --timeout "$timeout"
    [ -n "$services" ] || misuse '--service is missing'
    for service in $services; do
        case $service in
            [!A-Za-z0-9_.]* | *[!A-Za-z0-9_.-]*) misuse "--service: '$service' is not the name of a Compose service" ;;
        esac
    done
    for asset in $assets; do
        case $asset/ in
            [!/]* | / | *//* | */./* | */../*) misuse "--asset: '$asset' is not an absolute path, or has '.' or '..'" ;;
        esac
    done
    case $step in
        install) check_script_name ;;
        *) check_image ;;
    esac
    case $step:$#:$assets in
        precompile:0:*) misuse 'precompile: the command is missing' ;;
        purge-assets:*:) misuse 'purge-assets: --asset is missing' ;;
        pull:* | precompile:*) ;;
        *:0:*) ;;
        *) misuse "$step takes no command" ;;
    esac
    case ${1-} in -*) misuse "the command '$1' begins with -" ;; esac
    [ "$step" != verify ] || check_gate
}

check_script_name() { # sets hash
    hash=${script_name#rollout-}
    hash=${hash%.sh}
    case $hash in *[!0-9a-f]*) hash='' ;; esac
    [ ${#hash} -eq 12 ] && [ "$script_name" = "rollout-$hash.sh" ] ||
        misuse "--script-name: '$script_name' is not rollout-<12 hexadecimal digits>.sh"
}

check_image() { # sets repository and digest
    case $release in '' | [.-]* | *[!A-Za-z0-9_.-]*) misuse "--release: '$release' is not a tag" ;; esac
    digest=${image#*@}
    repository=${image%"@$digest"}
    tag=${repository##*:}
    repository=${repository%":$tag"}
    hex=${digest#sha256:}
    case $repository in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.:/-]*) image_is_wrong ;; esac
    case $tag in '' | [.-]* | *[!A-Za-z0-9_.-]*) image_is_wrong ;; esac
    case $hex in *[!0-9a-f]*) image_is_wrong ;; esac
    [ ${#hex} -eq 64 ] && [ "$image" = "$repository:$tag@sha256:$hex" ] || image_is_wrong
}

image_is_wrong() {
    misuse "--image: '$image' is not REPOSITORY:TAG@sha256:DIGEST"
}

check_gate() {
    check_number --port "$port"
    check_number --status "$wanted_status"
    case $path in /*) ;; *) misuse "--path: '$path' does not begin with /" ;; esac
    case $url in '' | http://?* | https://?*) ;; *) misuse "--url: '$url' is not an http(s) address" ;; esac
    for header in $headers; do
        case ${header%%:*} in
            '' | "$header" | *[!A-Za-z0-9-]*) misuse "--header: '$header' is not 'Name: value'" ;;
        esac
    done
}

start_log() { # one a run: pull begins it, the steps after it and its retries go on
    mkdir -p .releve/log
    log=.releve/$(readlink .releve/latest.log || :)
    case $step:$log in
        pull:*) ;;
        *:*-"$release.log")
            if [ -f "$log" ]; then
                log_start=$(wc -c <"$log")
                return
            fi
            ;;
    esac
    log=.releve/log/$(date -u +%Y%m%dT%H%M%SZ)-$release.log
    : >"$log"
    log_start=0
    ln -sfn "${log#.releve/}" .releve/latest.log
    keep_newest 50 .releve/log
}

take_lock() {
    exec 9>>.releve/lock 8>>.releve/children
    limit=$((now + LOCK_WAIT * 100))
    until flock -n 9; do
        clock
        [ "$now" -lt "$limit" ] && [ "$now" -lt "$deadline" ] ||
            fail "Another step works on $directory: $(cat .releve/lock)" 'Wait for its end, then try again.'
        sleep 0.2
    done
    printf 'process %s, step %s, release %s, since %s\n' $$ "$step" "$release" "$(date -u +%FT%TZ)" >.releve/lock
}

clear_leftovers() { # of a killed run
    remove_oneoffs
    # Its docker commands hold `children` until they end.
    flock -n 8 || say 'waiting for a docker command of a killed run'
    until flock -n 8; do
        clock
        [ "$now" -lt "$deadline" ] ||
            fail 'A docker command of a killed run is still running.' 'Wait for its end, or end it.'
        sleep 0.2
    done
}

on_exit() {
    status=$?
    rm -rf -- "$scratch" "${directory:?}/$CANDIDATE"
    [ "$status" -eq 0 ] || [ -n "$reported" ] || complain "$step: ended unexpectedly with status $status."
}

read_input() { # NAME BASE64 … end: each into a file of the step's own, $scratch/NAME
    name=''
    in_time cat >"$scratch/input" || fail 'Standard input stays open.'
    while IFS=' ' read -r name encoded; do
        case $name in
            compose-file) compose_file_given=yes ;;
            end) break ;;
            *) misuse "standard input: '$name' is unknown" ;;
        esac
        printf '%s\n' "$encoded" | base64 -d >"$scratch/$name" || refuse "What arrived as $name is damaged." 'Try again.'
    done <"$scratch/input"
    [ "$name" = end ] || refuse 'Standard input ended early: the connection broke.' 'Try again.'
    rm -- "$scratch/input"
}

work_in() { # DIRECTORY: for temporary files
    scratch=$1
    trap on_exit EXIT
    trap 'exit 143' INT TERM
}

forget_environment() { # what would make Compose do something else than it does for a person in the directory
    for variable in $(env | sed -n 's/^\(COMPOSE_[A-Z0-9_]*\)=.*/\1/p') DOCKER_DEFAULT_PLATFORM; do
        unset "$variable"
    done
    case ${DOCKER_HOST-} in
        '' | unix://*) ;;
        *) refuse "DOCKER_HOST is $DOCKER_HOST: the containers would not be on this server." 'Unset it at login.' ;;
    esac
}

parse() { # ARGUMENT …: sets command_at, the number of arguments before those of the command
    command_at=$#
    step=${1-}
    case $step in
        install | pull | stop | purge-assets | precompile | up | verify) shift ;;
        *) misuse "'$step' is not a step" ;;
    esac
    while [ $# -gt 0 ]; do
        case $1 in
            --) break ;;
            --input-follows) input_follows=yes ;;
            --compose-file-follows) compose_file_given=yes ;;
            *)
                [ $# -gt 1 ] || misuse "'$1' is unknown, or has no value"
                set_option "$1" "$2"
                shift
                ;;
        esac
        shift
    done
    # The `--` itself is not part of the command.
    [ $# -eq 0 ] || command_at=$((command_at - $# + 1))
}

main() {
    directory='' script_name='' release='' image='' services='' timeout='' assets='' compose_file_given='' input_follows=''
    port='' path='' wanted_status='' contains='' headers='' url=''
    step='' reported='' log='' override='' script=${RELEVE_SCRIPT-}
    unset RELEVE_SCRIPT
    # A file opened by this script must not become one of the standard streams, should the caller have closed one.
    [ -e /proc/self/fd/0 ] || exec </dev/null
    [ -e /proc/self/fd/1 ] || exec >/dev/null
    [ -e /proc/self/fd/2 ] || exec 2>/dev/null
    parse "$@"
    shift "$command_at"
    check_arguments "$@"
    web=${services%%"$IFS"*}
    clock
    since=$now
    end=$((now + timeout * 100))
    deadline=$end
    cd -- "$directory" || refuse "There is no directory $directory for $(id -un) (app.directory)."
    forget_environment
    if [ "$step" = install ]; then
        # No file in the directory until every check has passed; the checks need the form of an image only.
        work_in "$(mktemp -d)"
        log=$scratch/log
        : >"$log"
        log_start=0
        image=releve.invalid/check:check@sha256:$(printf '%064d' 0)
        step_install
        return
    fi
    take_lock
    work_in "$directory/.releve/tmp"
    rm -rf -- "$scratch"
    mkdir -- "$scratch"
    start_log
    oneoff_name=releve-$(printf '%s' "$directory" | sha256sum | cut -c 1-12)-$step
    [ -z "$input_follows" ] || read_input
    clear_leftovers
    case $step in
        pull) step_pull "$@" ;;
        stop) step_stop ;;
        purge-assets) step_purge_assets ;;
        precompile) step_precompile "$@" ;;
        up) step_up ;;
        verify) step_verify ;;
    esac
}

main "$@"
