# shellcheck shell=sh
# The program that copies from the directory $1, which holds 0, 1, …, into the directories $2 …, as far as there are such.
# Where it holds over/<any>/0, 1, …, these are releases by which files were replaced: only such files are put back.
set -eu
source=$1
shift
put() { # FILE: by a name of its own first, because readers must find it whole or not at all
    if [ ! -L "$1" ] && [ ! -L "$to/$1" ] && cmp -s -- "$1" "$to/$1"; then return 0; fi
    rm -rf -- "$to/$1.releve-new"
    cp -dp -- "$1" "$to/$1.releve-new"
    chown -h "$owner" "$to/$1.releve-new"
    mv -f -- "$to/$1.releve-new" "$to/$1"
}
is_replaced() { # FILE
    for over in "$source"/over/*/"$at"; do
        if [ -e "$over/$1" ] || [ -L "$over/$1" ]; then return 0; fi
    done
    return 1
}
number=0
for to in "$@"; do
    from=$source/$number at=$number
    number=$((number + 1))
    [ -d "$from" ] || continue
    mkdir -p -- "$to"
    owner=$(stat -c %u:%g -- "$to")
    cd -- "$from"
    find . -name "*.releve-new" -prune -o -type d ! -name . -print | while IFS= read -r directory; do
        [ -d "$to/$directory" ] || { mkdir -p -- "$to/$directory" && chown "$owner" "$to/$directory"; }
    done
    find . ! -type d ! -name "*manifest*.json" ! -name entrypoints.json -print | while IFS= read -r file; do
        if [ ! -d "$source/over" ] || is_replaced "$file"; then put "$file"; fi
    done
    find . ! -type d \( -name "*manifest*.json" -o -name entrypoints.json \) -print | while IFS= read -r file; do
        put "$file"
        # Of two manifests with random names Sprockets takes either: the new one replaces the old.
        case ${file##*/} in .sprockets-manifest-*) ;; *) continue ;; esac
        for other in "$to/${file%/*}"/.sprockets-manifest-*.json; do
            [ "$other" = "$to/${file%/*}/${file##*/}" ] || rm -f -- "$other"
        done
    done
done
