# shellcheck shell=sh
# The program that removes from the directories $3 … what neither release $1 nor $2 (may be empty) consists of.
set -eu
this=$1 previous=$2
shift 2
number=0
for from in "$@"; do
    if [ -d "$from" ]; then
        cd -- "$from"
        find . ! -type d -print | while IFS= read -r file; do
            # shellcheck disable=SC2086  # where it is empty it is none
            for keep in "$this" $previous; do
                if [ -e "$keep/$number/$file" ] || [ -L "$keep/$number/$file" ]; then continue 2; fi
            done
            rm -f -- "$file"
        done
    fi
    number=$((number + 1))
done
