# shellcheck shell=sh
# The project's Compose file: found as Compose finds it, given the images of a release, and read as Compose reads it.

CANDIDATE=.releve-candidate.yml # the new Compose file, in the directory of the old one, before it takes its place
FILE_NAMES='compose.yaml
compose.yml
docker-compose.yml
docker-compose.yaml' # in the order in which Compose looks for them
OVERRIDE_NAMES='compose.override.yml
compose.override.yaml
docker-compose.override.yml
docker-compose.override.yaml'

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

settings_of() { # LIST of services: all that the project says of them, but for their images
    printf '%s\n' "$resolved" | services=$1 awk '
        BEGIN { count = split(ENVIRON["services"], list, "\n"); for (i = 1; i <= count; i++) wanted[list[i]] }
        /^[^ ]/ { services = /^services:/ }
        /^  [^ ]/ { name = $0; gsub(/^ +|:.*$|"/, "", name) }
        services && name in wanted && !/^    image:/' | sed "s|$scratch/project|$directory|g"
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
    take_environment
    if [ "$view" != "$directory" ]; then
        resolved=$(composed "$candidate" config) || fail 'Docker Compose does not accept the environment of this release.'
        read_project "$resolved"
    fi
    oneoff_file=$candidate
    images_are_wanted "$project" ||
        refuse "The Compose file of this release does not give $(each "$services" words) the image $image." \
            "Remove the image from ${override:-the place that sets another one}."
}

compare_candidate() { # exactly the images of the services may differ
    compared=$(cat -- "$compose_file" ${override:+"$override"} "$candidate" | sha256sum)
    # The steps before this one have asked the same, or an earlier rollout, and asking takes a while.
    ! grep -qxF -- "$compared" .releve/compared 2>/dev/null || return 0
    before=$(normal_form "$compose_file") || fail "Docker Compose does not accept $directory/$compose_file."
    after=$(normal_form "$candidate") || fail "Docker Compose does not accept $compose_file with the new image."
    expected=$(printf '%s\n' "$before" | without_extensions | with_wanted_images)
    actual=$(printf '%s\n' "$after" | without_extensions)
    [ "$expected" = "$actual" ] || explain_difference "$expected" "$actual"
    [ -d .releve ] || return 0
    (tail -n 19 .releve/compared 2>/dev/null || :; printf '%s\n' "$compared") >.releve/compared.new
    mv -f -- .releve/compared.new .releve/compared
}

require_release_set() { # for the steps after stop; reads the project
    find_compose_file
    resolved=$(ask docker compose config) || fail "Docker Compose does not accept $directory/$compose_file."
    read_project "$resolved"
    oneoff_file=$compose_file
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
    fi
    replace_compose_file "$candidate"
    say "$compose_file names $image"
}

replace_compose_file() { # FILE
    # Nothing to write, and nothing that could fail, on a full disk for one.
    ! cmp -s -- "$1" "$compose_file" || return 0
    if [ -e "$compose_file" ]; then
        # A copy of the old file first: for its mode, and its owner where this user may set that.
        cp -p -- "$compose_file" "$CANDIDATE"
    else
        (umask 022 && : >"$CANDIDATE")
    fi
    cat -- "$1" >"$CANDIDATE"
    mv -f -- "$CANDIDATE" "$compose_file"
}
