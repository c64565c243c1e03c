# shellcheck shell=sh disable=SC2154  # $user and $name are set before it
# Into a database beside the migrated one, which it then replaces. What the application left connected would keep that
# one from being renamed.
set -e
run() { psql --quiet --set ON_ERROR_STOP=1 --username="$user" --dbname="$1" --command="$2"; }
other=postgres
[ "$name" != postgres ] || other=template1
run "$other" "DROP DATABASE IF EXISTS \"${name}_restored\""
run "$other" "CREATE DATABASE \"${name}_restored\" OWNER \"$user\""
pg_restore --exit-on-error --no-owner --username="$user" --dbname="${name}_restored"
run "$other" "DROP DATABASE IF EXISTS \"${name}_failed\""
run "$other" "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$name'" >/dev/null
run "$other" "ALTER DATABASE \"$name\" RENAME TO \"${name}_failed\""
run "$other" "ALTER DATABASE \"${name}_restored\" RENAME TO \"$name\""
run "$other" "DROP DATABASE \"${name}_failed\""
