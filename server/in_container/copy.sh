# shellcheck shell=sh
# The program that copies the directories $2 … into the directory $1, as 0, 1, …
set -eu
target=$1
shift
number=0
for from in "$@"; do
    mkdir -p -- "$target/$number"
    [ ! -d "$from" ] || cp -a -- "$from/." "$target/$number/"
    number=$((number + 1))
done
