# shellcheck shell=sh
# Into a database beside the migrated one, which it then replaces. What the application left connected would keep that
# one from being renamed.
set -e
name=$PGDATABASE other=postgres
[ "$name" != postgres ] || other=template1
run() { psql --dbname="$1" --command="$2"; }
run "$other" "DROP DATABASE IF EXISTS \"${name}_restored\""
run "$other" "CREATE DATABASE \"${name}_restored\" OWNER \"$PGUSER\""
pg_restore --exit-on-error --no-owner --dbname="${name}_restored"
run "$other" "DROP DATABASE IF EXISTS \"${name}_failed\""
run "$other" "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$name'" >/dev/null
run "$other" "ALTER DATABASE \"$name\" RENAME TO \"${name}_failed\""
run "$other" "ALTER DATABASE \"${name}_restored\" RENAME TO \"$name\""
run "$other" "DROP DATABASE \"${name}_failed\""
