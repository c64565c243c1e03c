# shellcheck shell=sh
# How a step runs other commands: within its time, with what they say in the log, and in containers that never stay.

in_time() { # COMMAND …: runs it in what remains of the phase's time; status 124 when that is over
    clock
    left=$(((deadline - now + 99) / 100))
    [ "$left" -gt 0 ] || return 124
    # It must not keep the lock when this script is killed.
    timeout -k 10 "$left" "$@" 9>&-
}

begin() { # PHASE: the time allowed for a part of a step
    phase=$1
    printf '%s\n' "$phase" >"$scratch/phase" || : # for those who come after a part that ended; not worth failing for
    timeout=$(printf '%s\n' "$limits" | sed -n "s/^$1=//p")
    [ -n "$timeout" ] || misuse "--limit $1=SECONDS is missing"
    clock
    end=$((now + timeout * 100))
    deadline=$end
}

allow_more_time() { # to clean up, or to say what happened, after the phase's own time
    clock
    deadline=$((now + 3000))
}

note_command() { # WORDS: in the log. A log that cannot be written, on a full disk, is no reason to stop half way
    # Of a program its first line tells.
    printf '+ %s\n' "${1%%"$IFS"*}" >>"$log" 2>/dev/null || :
}

logged() { # COMMAND …: with its output in the log
    note_command "$(words "$@")"
    in_time "$@" </dev/null >>"$log" 2>&1
}

ask() { # COMMAND …: with its errors in the log
    in_time "$@" </dev/null 2>>"$log"
}

composed() { # FILE ARGUMENT …: docker compose for the project as if FILE were its Compose file
    file=$1
    shift
    [ -z "$override" ] || set -- -f "$directory/$override" "$@"
    # The project's name, too, where another directory stands for the project's.
    [ "$view" = "$directory" ] || set -- -p "$project_name" "$@"
    # By stdin: relative paths, .env and the project's name stay those of the directory, wherever FILE is.
    in_time docker compose --project-directory "$view" -f - "$@" <"$file" 2>>"$log"
}

each() { # LIST COMMAND …: runs it once, with the values of the list appended
    list=$1
    shift
    for value in $list; do set -- "$@" "$value"; done
    "$@"
}

remove_oneoffs() { # [NAME]: what a killed run left would go on writing into the assets
    leftover=$(ask docker ps -aq --filter "label=releve.project=$directory" ${1:+--filter "name=$oneoff_name-$1"}) ||
        fail 'docker ps failed.'
    for container in $leftover; do
        # Not done while its own --rm is at work; done when there is none any more.
        until logged docker rm -f -v "$container"; do
            clock
            [ "$now" -lt "$deadline" ] || fail "The one-off container $container cannot be removed."
            sleep 0.2
        done
    done
}

oneoff() { # NAME [OPTION …] SERVICE ARGUMENT …: runs it in a container of its own, and leaves none
    (
        status=0
        name=$oneoff_name-$1
        shift
        # Without --no-deps, `run` may recreate the database.
        set -- run -T --rm --no-deps --name "$name" --label "releve.project=$directory" --label "releve.release=$release" "$@"
        note_command "docker compose $(words "$@")"
        if [ -z "$overlay" ] && [ "$oneoff_file" = "$compose_file" ]; then
            in_time docker compose "$@" </dev/null >>"$oneoff_output" 2>>"$log" || status=$?
        else
            [ -z "$overlay" ] || set -- -f "$overlay" "$@"
            composed "$oneoff_file" "$@" >>"$oneoff_output" || status=$?
        fi
        if [ "$status" -ne 0 ]; then
            # `timeout` ends the client only. Not a `timeout` inside: entrypoints look at the command they are given.
            allow_more_time
            remove_oneoffs
        fi
        exit "$status"
    ) 9>&- # So this outlives a killed script.
}

run_as_root() { # NAME [OPTION …] IMAGE ARGUMENT …: in a container of its own, by `docker run`: Compose takes twice as long
    name=$1
    shift
    status=0
    logged docker run --rm --name "$oneoff_name-$name" --label "releve.project=$directory" --label "releve.release=$release" \
        --user 0:0 "$@" || status=$?
    [ "$status" -eq 0 ] || (allow_more_time && remove_oneoffs "$name") # `timeout` ends the client only
    return "$status"
}

json() { # TEXT: as a JSON string, which YAML reads as well, without the variables that Compose would fill in
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g; s/\$/$$/g')"
}

keep_newest() { # NUMBER DIRECTORY: our own files, so their names are simple
    # shellcheck disable=SC2012  # `find` has no portable order by time.
    ls -1t -- "$2" | tail -n +$(($1 + 1)) | while read -r name; do rm -f -- "$2/$name"; done
}
