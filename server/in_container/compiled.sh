# shellcheck shell=sh disable=SC2154  # $periods is set before it
# The program that removes from the directories $1 … what was last changed there in one of the periods, each START-END in
# seconds since 1970.
set -eu
for directory in "$@"; do
    [ -d "$directory" ] || continue
    cd -- "$directory"
    find . ! -type d -exec stat -c '%Z %n' {} + | while IFS=' ' read -r changed file; do
        for period in $periods; do
            if [ "$changed" -ge "${period%-*}" ] && [ "$changed" -le "${period#*-}" ]; then printf '%s\0' "$file"; fi
        done
    done | xargs -0 rm -f --
done
