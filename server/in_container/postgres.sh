# shellcheck shell=sh disable=SC2013,SC2034  # words of a list; the program behind it uses these
# Before every program in a database's container: whose the database is and where it listens. $1 is backup.user, $2 the
# database; where they are empty, the variables of the official image say it, or Bitnami's.
[ -z "${POSTGRES_USER_FILE:-}" ] || POSTGRES_USER=$(cat "$POSTGRES_USER_FILE")
[ -z "${POSTGRES_DB_FILE:-}" ] || POSTGRES_DB=$(cat "$POSTGRES_DB_FILE")
[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
owner=${POSTGRES_USER:-${POSTGRESQL_USERNAME:-postgres}}
export PGUSER="${1:-$owner}"
export PGDATABASE="${2:-${POSTGRES_DB:-${POSTGRESQL_DATABASE:-$owner}}}"
export PGPASSWORD="${PGPASSWORD:-${POSTGRES_PASSWORD:-${POSTGRESQL_PASSWORD:-}}}"
shift 2
# The kernel lists the sockets that are listened on here; without any, PostgreSQL is reached by TCP alone.
if [ -z "${PGHOST:-}" ] && [ -r /proc/net/unix ]; then
    PGHOST=localhost
    for socket in $(sed -n 's|.* \(/[^ ]*/\.s\.PGSQL\.[0-9]*\)$|\1|p' /proc/net/unix); do
        [ -S "$socket" ] || continue
        PGHOST=${socket%/*} PGPORT=${socket##*.}
        export PGPORT
        break
    done
    export PGHOST
fi
psql() { command psql --no-psqlrc --quiet --no-align --tuples-only --no-password --set=ON_ERROR_STOP=1 "$@"; }
