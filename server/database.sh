# shellcheck shell=sh
# The database: whether migrations are pending, a verified dump before they run, and the way back from it.

ask_pending() { # sets pending: yes or no. Asked of the new image before anything changes
    pending=no
    [ -n "$migrate" ] || return 0
    if [ "$current" = "$release_name" ] || [ -f "$release_directory/live" ]; then
        # It has served here, and no migration was run since: there is nothing to ask, and an answer costs a start.
        if [ "$(cat "$release_directory/schema" 2>/dev/null)" = "$(schema)" ] && [ ! -d .releve/transaction ]; then
            return 0
        fi
    fi
    begin pending
    check_dependencies
    start_missing 'Nothing was stopped.'
    answer=$scratch/pending
    : >"$answer"
    oneoff_output=$answer
    status=0
    if [ -n "$pending_command" ]; then
        each "$pending_command" oneoff pending "$web" || status=$?
    else
        oneoff pending "$web" bundle exec rails db:migrate:status || status=$?
    fi
    oneoff_output=$log
    cat -- "$answer" >>"$log"
    [ -n "$pending_command" ] || status=$(state_of_migrations "$status")
    case $status in
        0) note_older_schema ;;
        3) take_pending ;;
        4) refuse_newer_database ;;
        5) say 'notice: the database has no tables yet; setting it up is left to the application, or to you' ;;
        *) fail "Whether migrations are pending cannot be told: status $status (app.pending)." 'Nothing was stopped.' ;;
    esac
}

take_pending() {
    pending=yes
    [ "$strategy" != rolling ] || [ "$migrations" = compatible ] || refuse \
        "$release has migrations that are pending, and under the strategy rolling the old release works on with the database." \
        'Nothing was stopped. If it can: set app.migrations: compatible. If not: set app.strategy: staged for this release.'
}

note_older_schema() { # a release that has served before the last migration knows all of the database: that was put back
    [ -f "$release_directory/live" ] || return 0
    [ "$(cat "$release_directory/schema" 2>/dev/null)" = "$(schema)" ] ||
        printf '%s\n' "$release_name-$(date +%s)" >.releve/schema
}

state_of_migrations() { # STATUS of `rails db:migrate:status`: 0 none pending, 3 pending, 4 database ahead, 5 no tables
    if [ "$1" -ne 0 ]; then
        # Rails' own words, since 5.0; they are on stderr, and so in the log.
        if tail -c +$((log_start + 1)) -- "$log" | grep -q 'Schema migrations table does not exist yet'; then
            echo 5
        else
            echo "$1"
        fi
        return
    fi
    awk '/^ *up +[0-9]+ +\*+ NO FILE \*+ *$/ { ahead = 1 } /^ *down +[0-9]+ / { pending = 1 } /^ *(up|down) +[0-9]+ / { known = 1 }
        END { print ahead ? 4 : pending ? 3 : known ? 0 : 6 }' "$answer"
}

refuse_newer_database() {
    if [ "$migrations" = compatible ]; then
        say 'notice: the database is ahead of this release (app.migrations: compatible)'
        return 0
    fi
    dump=$(newest_dump)
    refuse "The database has migrations that $release does not know: it is ahead of this release." \
        "Go forward instead; or set app.migrations: compatible if this release works with it; or restore the dump made
before they ran, which loses what was written since:  $directory/${dump:-.releve/backups: there is none}"
}

newest_dump() {
    # shellcheck disable=SC2012  # our own names, by time
    ls -1t -- .releve/backups 2>/dev/null | sed -n '1s|^|.releve/backups/|p'
}

find_database() { # sets backup_service, unless it is configured: the only service with a PostgreSQL image
    [ -z "$backup_service" ] || return 0
    backup_service=$(printf '%s\n' "$project" | awk -F '\t' '$2 == "image" && $3 ~ /(^|\/)(postgres|postgis|postgresql)[^\/]*$/ { print $1 }')
    case $backup_service in
        '' | *"$IFS"*)
            refuse 'Which service is the database is not known, so no dump can be made, and nothing is migrated without.' \
                'Set backup.service; for another database than PostgreSQL, backup.command as well.'
            ;;
    esac
}

in_database() { # COMMAND …: in the database's container
    in_time docker compose exec -T "$backup_service" "$@" 2>>"$log"
}

dump_with_command() { # into $dump.part
    case $IFS$services$IFS in
        *"$IFS$backup_service$IFS"*) ;;
        *)
            each "$backup_command" in_database </dev/null >"$dump.part"
            return
            ;;
    esac
    # A database in a file of the application, or none of this server's: the application may be stopped, and has the client.
    oneoff_output=$dump.part
    status=0
    : >"$dump.part"
    # By a shell: an entrypoint of the image's might print something of its own.
    each "$backup_command" oneoff dump --entrypoint sh "$backup_service" -c 'exec "$@"' sh || status=$?
    oneoff_output=$log
    return "$status"
}

# Programs for the database's container: the official image's variables say whose the database is.
DATABASE='user=${1:-${POSTGRES_USER:-postgres}} name=${2:-${POSTGRES_DB:-${POSTGRES_USER:-postgres}}}; shift 2; '

postgres() { # PROGRAM [ARGUMENT …]: a shell program with $user and $name, in the database's container
    program=$1
    shift
    in_database sh -c "$DATABASE$program" sh "$backup_user" "$backup_database" "$@"
}

dump_database() { # NAME: sets dump: a file that holds all, only its owner can read, and pg_restore has read
    find_database
    mkdir -p .releve/backups
    require_space
    dump=.releve/backups/$(date -u +%Y%m%dT%H%M%SZ)-$1.dump
    note_command "dump of the service $backup_service"
    remove_unfinished_dumps
    if [ -n "$backup_command" ]; then
        dump_with_command || fail_dump 'The dump fails (backup.command).'
        [ -s "$dump.part" ] || fail_dump 'The dump is empty (backup.command).'
    else
        postgres 'exec pg_dump --format=custom --username="$user" --dbname="$name"' </dev/null >"$dump.part" ||
            fail_dump 'pg_dump fails.' 'See backup.service, backup.database and backup.user.'
        in_database pg_restore --list <"$dump.part" >/dev/null || fail_dump 'pg_restore cannot read the dump.'
    fi
    mv -- "$dump.part" "$dump"
    keep_newest "$backup_keep" .releve/backups
    say "dumped the database to $dump, $(($(wc -c <"$dump") / 1024)) KiB"
}

fail_dump() { # MESSAGE [REMEDY]: half a dump may be what has filled the disk
    rm -f -- "$dump.part"
    fail "$@"
}

remove_unfinished_dumps() {
    [ ! -d .releve/backups ] || find .releve/backups -name '*.part' -exec rm -f -- {} +
}

step_dump() { # on demand
    find_compose_file
    resolved=$(ask docker compose config) || fail "Docker Compose does not accept $directory/$compose_file."
    read_project "$resolved"
    begin dump
    dump_database on-demand
}

require_space() { # as much as the database takes: a dump is smaller, but by how much nobody knows before
    if [ -n "$backup_command" ]; then
        last=$(newest_dump)
        needed=0
        [ -z "$last" ] || needed=$(wc -c <"$last")
    else
        needed=$(postgres 'exec psql --no-align --tuples-only --username="$user" --dbname="$name" \
            --command="SELECT pg_database_size(current_database())"' </dev/null) ||
            fail 'The database does not say how large it is.' 'See backup.service, backup.database and backup.user.'
    fi
    free=$(df -Pk .releve | awk 'NR == 2 { print $4 }')
    [ $((needed / 1024)) -lt "$free" ] ||
        refuse "The dump may need $((needed / 1048576)) MiB, and only $((free / 1024)) MiB are free below $directory." \
            'Make room, then run `pulumi up` again.'
}

migrate_database() {
    # From here on the database may be another one, whatever happens: the dump is what it was.
    printf '%s\n' "$dump" >.releve/transaction/dump
    printf '%s\n' "$release_name-$(date +%s)" >.releve/schema
    each "$migrate" oneoff migrate "$web" || fail 'The migrations fail (app.migrate).'
    say 'migrated the database'
}

restore_dump() { # FILE: into a database beside the migrated one, which it then replaces
    # --force: what the application left connected would keep the database from being renamed.
    postgres '
        set -e
        run() { psql --quiet --set ON_ERROR_STOP=1 --username="$user" --dbname="$1" --command="$2"; }
        other=postgres
        [ "$name" != postgres ] || other=template1
        run "$other" "DROP DATABASE IF EXISTS \"${name}_restored\""
        run "$other" "CREATE DATABASE \"${name}_restored\" OWNER \"$user\""
        pg_restore --exit-on-error --no-owner --username="$user" --dbname="${name}_restored"
        run "$other" "DROP DATABASE IF EXISTS \"${name}_failed\""
        run "$other" "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\''$name'\''" >/dev/null
        run "$other" "ALTER DATABASE \"$name\" RENAME TO \"${name}_failed\""
        run "$other" "ALTER DATABASE \"${name}_restored\" RENAME TO \"$name\""
        run "$other" "DROP DATABASE \"${name}_failed\""
    ' <"$1" >>"$log"
}
