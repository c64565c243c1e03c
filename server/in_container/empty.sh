# shellcheck shell=sh
for directory in "$@"; do
    [ ! -d "$directory" ] || (cd -- "$directory" && rm -rf -- ..?* .[!.]* *) || exit 1
done
