# shellcheck shell=sh
names=$(psql --dbname=template1 --command='SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate') || exit
# A line for each database that Rails has migrated: a hash of all versions, and its name.
printf '%s\n' "$names" | sort | while IFS= read -r PGDATABASE; do
    found=$(psql --command="SELECT md5(string_agg(version, ',' ORDER BY version)) FROM schema_migrations" 2>/dev/null)
    [ -z "$found" ] || printf '%s %s\n' "$found" "$PGDATABASE"
done
