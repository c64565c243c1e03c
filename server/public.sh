# shellcheck shell=sh
# What visitors get: the public address asked from the server, and for how long it did not answer.

ASSET_NAMES='css js mjs png jpg jpeg gif svg webp avif ico woff woff2 ttf'
MOST_ASSETS=200 # of a page: more are not asked for

visit() { # URL [OPTION …]: sets code, 000 without any answer, and final_url; the body is in $scratch/page
    answer=$(in_time curl -q --silent --globoff --location --max-redirs 3 --proto '=http,https' --max-time 10 \
        --output "$scratch/page" --write-out '%{http_code} %{url_effective}' "$@" </dev/null 2>>"$log") || :
    code=${answer%% *}
    final_url=${answer#* }
    code=${code:-000}
}

note_public_state() { # before anything changes: sets reachable, and home_status
    reachable='' home_status=000
    [ -n "$url" ] || return 0
    visit "${url%/}/"
    home_status=$code
    if [ "$code" = 000 ]; then
        say "notice: $url cannot be reached from this server, so the release is not looked at through it"
    else
        reachable=yes
    fi
}

check_public() { # the release as visitors get it
    [ -n "$reachable" ] || return 0
    check_public_health
    check_home_page
}

check_public_health() { # polled: a proxy may need a moment to see the new container
    target=${url%/}$path
    while :; do
        set -- "$target"
        for header in $headers; do set -- --header "$header" "$@"; done
        visit "$@"
        problem="$target answers $code, not $wanted_status"
        if [ "$code" = "$wanted_status" ]; then
            problem=''
            for string in $contains; do
                grep -qF -- "$string" "$scratch/page" || problem="$target answers $code, but without '$string'"
            done
        fi
        [ -n "$problem" ] || return 0
        clock
        [ "$now" -lt "$deadline" ] || fail_with_logs "Through the public address the release does not answer: $problem."
        sleep 0.2
    done
}

check_home_page() { # and every asset that it names
    target=${url%/}/
    visit "$target"
    case $code:$home_status in
        2??:*) ;;
        5??:* | *:2??) fail_with_logs "$target answers $code." ;;
        *) # As before: a site may ask for a password there, or have no page.
            say "notice: $target answers $code, so no assets were looked at"
            return 0
            ;;
    esac
    assets_of_page="$(named_assets)"
    count=0
    for asset in $assets_of_page; do
        visit "$asset"
        [ "$code" = 200 ] || fail_with_logs "The page $target names $asset, which answers $code."
        count=$((count + 1))
    done
    say "$target and its $count assets answer"
}

named_assets() { # of the page: addresses of the same origin that are files
    origin=$(printf '%s\n' "$final_url" | sed 's|^\([a-z]*://[^/?#]*\).*|\1|')
    base=${final_url%%[?#]*}
    base=${base%/*}
    tr '\n<' ' \n' <"$scratch/page" |
        sed -n 's/^\(link\|script\|img\|source\) .*/&/p' |
        grep -oE '(src|href)=("[^"]*"|'"'[^']*'"')' |
        sed "s/^[a-z]*=.//; s/.\$//; s/&amp;/\\&/g; s/#.*//" |
        awk -v origin="$origin" -v base="$base" -v names="$ASSET_NAMES" '
            BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) asset[list[i]] }
            {
                address = $0
                if (index(address, "//") == 1 || (address ~ /^[a-z]+:/ && index(address, origin "/") != 1)) next
                file = address
                sub(/\?.*/, "", file)
                ending = tolower(file)
                sub(/.*\./, "", ending)
                if (!(ending in asset)) next
                if (address ~ /^\//) address = origin address
                else if (address !~ /^[a-z]+:/) address = base "/" address
                if (!(address in seen)) print address
                seen[address]
            }' | head -n "$MOST_ASSETS"
}

measure_downtime() { # in the background, ten times a second, from now until stop_measuring
    : >"$scratch/measuring"
    : >"$scratch/probes"
    (
        while [ -e "$scratch/measuring" ] && kill -0 $$ 2>/dev/null; do
            clock
            asked=$now
            if serves; then serving=1; else serving=0; fi
            printf '%s %s\n' "$asked" "$serving" >>"$scratch/probes" || :
            pause_until $((asked + 10))
        done
    ) </dev/null >/dev/null 2>&1 8>&- 9>&- &
    measurer=$!
}

serves() { # whether visitors get an answer that is not the proxy's regret; without an address of theirs, the container's
    if [ -n "$reachable" ]; then targets=${url%/}$path; else targets=$(cat "$scratch/addresses" 2>/dev/null) || return 1; fi
    each "$targets" any_serves
}

any_serves() { # URL …: whether one of them gives an answer that is none of a broken server
    for target in "$@"; do
        case $(curl -q --silent --globoff --noproxy '*' --max-time 2 --output /dev/null --write-out '%{http_code}' "$target") in
            [1-4]??) return 0 ;;
        esac
    done
    return 1
}

targets_of() { # CONTAINER: what is asked of it
    addresses=$(addresses_of "$1") || return 0
    for address in $addresses; do printf 'http://%s:%s%s\n' "$address" "$port" "$path"; done
}

note_addresses() { # of the containers that serve now, for measuring without a public address
    clock
    [ -z "$reachable" ] || return 0
    for container in $(containers_of "$web"); do targets_of "$container"; done >"$scratch/addresses.new"
    mv -f -- "$scratch/addresses.new" "$scratch/addresses"
}

stop_measuring() { # sets downtime, in hundredths of a second
    rm -f -- "$scratch/measuring"
    # What it is just asking would change the figure by less than a tenth of a second, and may take two.
    # Some shells say "Terminated" of it, which somebody could believe of the rollout.
    [ -z "$measurer" ] || { kill "$measurer" || :; wait "$measurer" || :; } 2>/dev/null
    measurer=''
    clock
    downtime=$(awk -v end="$now" '
        failed { down += $1 - asked }
        { failed = !$2; asked = $1 }
        END { if (failed) down += end - asked; print down + 0 }' "$scratch/probes")
}
