# shellcheck shell=sh disable=SC2034  # most of it is used by those who source it
# What the sandbox's commands share: where it lies, what its things are called, how its servers are reached.
# Sourced, after `set -eu`, by a command that has set HERE to the directory it lies in.
#
# RELEVE_SANDBOX  the sandbox's directory (default: .sandbox in the checkout). Two directories are two sandboxes: every
#                 container, network, volume and tag of one carries a prefix made from the directory's path.
# RELEVE_CACHE    what is worth keeping between sandboxes (default: ~/.cache/releve).

CHECKOUT=$(cd "$HERE/.." && pwd -P)
tools=$CHECKOUT/tools
# shellcheck source=tools/lib.sh
. "$tools/lib.sh"

SANDBOX=${RELEVE_SANDBOX:-$CHECKOUT/.sandbox}
case $SANDBOX in /*) ;; *) SANDBOX=$PWD/$SANDBOX ;; esac
PREFIX=releve-$(printf '%s' "$SANDBOX" | sha256sum | cut -c 1-6)
LABEL=releve.sandbox=$PREFIX
SSH_KEY=$SANDBOX/ssh/id_ed25519
KNOWN_HOSTS=$SANDBOX/ssh/known_hosts
SECURE=$SANDBOX/secure-registry
# The stack's file lies where Pulumi looks for it; that of a sandbox elsewhere, beside what it belongs to.
STACK_FILE=$SANDBOX/Pulumi.local.yaml
[ "$SANDBOX" != "$CHECKOUT/.sandbox" ] || STACK_FILE=$CHECKOUT/Pulumi.local.yaml
# Ports of a server that reach the machine: 80, and these for further applications.
EXTRA_PORTS=8081-8088

# Set: no progress, only what goes wrong.
RELEVE_QUIET=${RELEVE_QUIET:-}

say() { [ -n "$RELEVE_QUIET" ] || printf 'sandbox: %s\n' "$*" >&2; }

# fail MESSAGE [REMEDY…]: ends the command.
fail() {
    printf 'sandbox: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 1
}

# usage: prints the command's own usage, the comment lines between "# Usage:" and the first line that is no comment.
usage() {
    sed -n '/^# Usage:/,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

# value NAME FILE: the value of the line NAME=VALUE.
value() { sed -n "s/^$1=//p" "$2"; }

# require_up: the sandbox exists.
require_up() { [ -f "$SANDBOX/ports/registry" ] || fail "there is no sandbox in $SANDBOX." "Run: sandbox/up"; }

# require_node NAME: the sandbox has a server of that name.
require_node() {
    require_up
    [ -f "$SANDBOX/ports/$1" ] || fail "the sandbox has no server '$1'." \
        "It has: $(cd "$SANDBOX/ports" && printf '%s ' server*)"
}

registry_address() { printf 'localhost:%s' "$(value registry "$SANDBOX/ports/registry")"; }

# host_key NAME: the server's SSH host key, as `ssh-ed25519 AAAA…`.
host_key() { cut -d ' ' -f 1,2 "$SANDBOX/ssh/$1_host_ed25519_key.pub"; }

# require_directory PATH: one directory below /apps, whose name serves as that of the Compose project.
require_directory() {
    printf '%s
' "$1" | grep -Eq '^/apps/[a-z0-9][a-z0-9_-]*$' || fail "'$1' is no directory for a project." \
        "Give /apps/NAME with small letters, digits, - and _."
}

# wait_for SECONDS WHAT COMMAND…: polls until the command succeeds.
wait_for() {
    deadline=$(($(date +%s) + $1))
    what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "$what: still waiting after the time allowed."
        sleep 0.1
    done
}
