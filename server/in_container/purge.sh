# shellcheck shell=sh
# The program that removes from the directories $2 … what retired releases have published there. In the directory $1
# retired/<any>/0, 1, … are what these consist of, kept/<any>/0, 1, … what stays. A file of unknown origin, or of another
# content than the retired release's, is not one that was published: it stays.
set -eu
releases=$1
shift
is_same() { # FILE FILE
    if [ -L "$1" ] || [ -L "$2" ]; then
        [ -L "$1" ] && [ -L "$2" ] && [ "$(readlink -- "$1")" = "$(readlink -- "$2")" ]
    else
        cmp -s -- "$1" "$2"
    fi
}
number=0
for from in "$@"; do
    for retired in "$releases"/retired/*/"$number"; do
        if [ ! -d "$retired" ] || [ ! -d "$from" ]; then continue; fi
        cd -- "$retired"
        find . ! -type d -print | while IFS= read -r file; do
            [ ! -e "$from/$file.releve-new" ] || rm -f -- "$from/$file.releve-new" # half written
            if [ ! -e "$from/$file" ] && [ ! -L "$from/$file" ]; then continue; fi
            for kept in "$releases"/kept/*/"$number"; do
                if [ -e "$kept/$file" ] || [ -L "$kept/$file" ]; then continue 2; fi
            done
            if is_same "$file" "$from/$file"; then printf '%s\0' "$from/$file"; fi
        done | xargs -0 rm -f --
    done
    number=$((number + 1))
done
