# shellcheck shell=sh
# Each line that it reads names the addresses to which new connections are refused from then on, and no others; it
# answers `done` or `failed`. The first answer says whether this server can refuse at all. At the end of its input it
# ends, and leaves all as it is.
accept_all() {
    for tables in iptables ip6tables; do
        "$tables" -w 5 -F RELEVE 2>/dev/null || continue # it is not there
        "$tables" -w 5 -D OUTPUT -j RELEVE 2>/dev/null || :
        "$tables" -w 5 -X RELEVE || return 1
    done
}
refuse() {
    for address in "$@"; do
        case $address in *:*) tables=ip6tables ;; *) tables=iptables ;; esac
        if "$tables" -w 5 -N RELEVE 2>/dev/null; then "$tables" -w 5 -I OUTPUT -j RELEVE || return 1; fi
        "$tables" -w 5 -A RELEVE -p tcp --syn -d "$address" -j REJECT --reject-with tcp-reset || return 1
    done
}
# 192.0.2.1 is nobody's (RFC 5737).
if accept_all && refuse 192.0.2.1 && accept_all; then echo 'done'; else echo failed; fi
while read -r addresses; do
    # shellcheck disable=SC2086  # a list
    if accept_all && refuse $addresses; then echo 'done'; else echo failed; fi
done
