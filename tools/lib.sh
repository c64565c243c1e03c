# shellcheck shell=sh
# Shared by the scripts in tools/. Sourced with $tools set to this directory.

# shellcheck source-path=SCRIPTDIR source=versions.sh disable=SC2154
. "$tools/versions.sh"

# Everything fetched or built lands here, keyed by version, outside the checkout.
CACHE=${RELEVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/releve}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# fail MESSAGE [REMEDY...]: one line each, then exit 1.
fail() {
    say "$1"
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 1
}

# short_hash: the first 12 hexadecimal digits of the SHA-256 of standard input.
short_hash() { sha256sum | cut -c1-12; }

# at_least WANTED FOUND: whether version FOUND is WANTED or newer.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# lock NAME: waits for this script's turn; the kernel frees it when the process dies.
lock() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/$1.lock"
    flock 9
}

# with_progress MESSAGE COMMAND...: runs COMMAND, says so every ten seconds, shows the end of its output when it fails.
with_progress() {
    message=$1
    shift
    log=$(mktemp)
    say "$message"
    "$@" >"$log" 2>&1 </dev/null 9>&- &
    child=$!
    trap 'kill "$child" 2>/dev/null; rm -f "$log"; exit 1' HUP INT TERM
    started=$(date +%s)
    reported=$started
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        now=$(date +%s)
        [ $((now - reported)) -ge 10 ] || continue
        reported=$now
        say "$message ($((now - started)) s)"
    done
    status=0
    wait "$child" || status=$?
    trap - HUP INT TERM
    [ "$status" = 0 ] || tail -n 20 "$log" >&2
    rm -f "$log"
    return "$status"
}

# install_packages PACKAGE...: installs Debian packages, or says that they are missing.
install_packages() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "missing: $*" "Install these Debian packages (or what provides the same), then run this again."
    fi
    with_progress "installing $*" sh -c 'apt-get --quiet update &&
        DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --option DPkg::Lock::Timeout=300 \
            install --no-install-recommends "$@"' apt "$@" || fail "apt could not install: $*"
}
