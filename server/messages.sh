# shellcheck shell=sh
# What a step says: progress on stdout, reasons on stderr, everything else in the log.

ESCAPE=$(printf '\033') # begins the colours of a terminal

clock() { # sets now, in hundredths of a second, from a clock that nobody can set
    IFS=' ' read -r uptime _ </proc/uptime
    now=${uptime%.*}${uptime#*.}
}

pause_until() { # a time of that clock
    clock
    [ "$now" -ge "$1" ] || sleep "$((($1 - now) / 100)).$(printf '%02d' $((($1 - now) % 100)))"
}

seconds() { # HUNDREDTHS
    printf '%d.%d' $(($1 / 100)) $(($1 % 100 / 10))
}

say() { # MESSAGE: one line of progress with the time it took. Never fails: without a listener the work goes on.
    clock
    took=$((now - since))
    since=$now
    printf '%s: %s (%s s)\n' "$step" "$1" "$(seconds "$took")" 2>/dev/null || :
}

complain() { # LINE …: the same for stderr
    reported=yes
    printf '%s\n' "$@" | fit >&2 2>/dev/null || :
}

fit() { # for a terminal, and for a protocol that takes valid UTF-8 only and hangs at lines over 64 KiB
    sed "s/$ESCAPE\[[0-9;]*[A-Za-z]//g" | cut -b 1-500 | tr -d '\000-\010\013-\037\177' |
        if command -v iconv >/dev/null; then iconv -c -f UTF-8 -t UTF-8; else tr -d '\200-\377'; fi
}

misuse() { # MESSAGE
    complain "rollout.sh: $1"
    exit 2
}

words() ( # WORD …: on one line
    IFS=' '
    printf '%s' "$*"
)

refuse() { # MESSAGE [REMEDY]
    complain "$step: $1"
    [ -z "${2-}" ] || complain "$2"
    exit 1
}

fail() { # MESSAGE [REMEDY]: the same with the end of the log, which says why
    clock
    complain "$step: $1"
    if [ "$now" -ge "$end" ]; then
        case $phase in
            gate | verify) setting=health.timeout ;;
            *) setting=app.stepTimeouts.$phase ;;
        esac
        complain "The time allowed for this, $timeout s, is over ($setting)."
    fi
    if [ -n "$log" ]; then
        lines=$(tail -c +$((log_start + 1)) -- "$log" | tail -n 60)
        [ -z "$lines" ] || complain "$lines"
        [ "$step" = install ] || complain "The whole log, on the server: $directory/$log"
    fi
    [ -z "${2-}" ] || complain "$2"
    exit 1
}
