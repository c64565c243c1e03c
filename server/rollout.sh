#!/bin/sh
# One step of a rollout, on a server that runs its application with Docker Compose. The only thing Relève runs there: its
# parts, in the files beside this one, are put into one script before it is sent (release/steps.py).
#
#   sh rollout.sh STEP --directory DIR --service NAME [--service NAME …] --timeout SECONDS [OPTION …] [-- COMMAND …]
#
#   install        checks the server and copies this script, wherever it was put, to DIR/.releve/bin/<--script-name>
#   pull           checks the project and pulls the image; stops nothing, and changes no file of the project
# --strategy in-place (in_place.sh), after that:
#   stop           sets the image of the services in the Compose file, and stops them
#   purge-assets   empties each --asset, in a container
#   precompile     runs COMMAND in a container of the first service
#   up             recreates the services, then brings up the whole project
#   verify         waits until the containers of the services run the image, and the first service answers as expected
# --strategy staged (staged.sh), after that:
#   precompile     runs COMMAND into a directory beside; with --assets-from image there is no such step, and pull takes
#                  the assets of the image
#   up             dumps and migrates the database if need be, publishes the assets, sets the image, recreates the
#                  services, waits until they serve; or puts everything back
#   after-up       runs the --after-up commands
#   purge          removes what neither this nor the previous release needs
# --strategy rolling (rolling.sh): the same, but `up` starts the first service's new container beside the old one
#
# At any time:
#   dump           dumps the database, and checks the dump
#
#   all but install and dump: --release TAG  --image REPOSITORY:TAG@sha256:DIGEST  [--actor NAME]  --strategy NAME
#   --asset PATH …                          absolute, inside the containers of the first service
#   -- COMMAND …                            what compiles the assets; pull looks whether the image has it
#   --limit PHASE=SECONDS …                 how long a part of `up` may take
#   health: --port N --path /P --status N [--contains STRING …] [--header 'Name: value' …] [--url http://public.example]
#           [--settle SECONDS] [--log-file PATH …]
#   migrations: [--migrate WORD …] [--pending WORD …] [--migrations stopped|compatible] [--maintenance-page FILE]
#   dump: [--backup-service NAME] [--backup-user NAME] [--backup-database NAME] [--backup-command WORD …]
#         [--backup-keep N] [--restore-on-failure yes]
#   tasks: [--before-up NUMBER:WORD …] [--after-up NUMBER:WORD …]
#   rolling: [--worker-quiet WORD …]
#   [--precompile-memory SIZE] [--downtime-budget SECONDS] [--keep-releases N]
#   --input-follows             what is too long or too secret for an argument, on stdin, in lines:
#       compose-file BASE64         the Compose file comes from the repository, its images already set
#       environment BASE64          the content of .env
#       registry-login BASE64       pull: a Docker client's config.json with the registry's account
#       end                         the last line: without it something is missing
#   install: --compose-file-follows         the Compose file comes later; the server needs none yet
#
# Exit status: 0 done; 1 failed or refused, the reason on stderr; 2 wrong usage. A step may be entered again half way.
# In DIR it changes the Compose file alone, and .env where it is given. Its own files, all in DIR/.releve (mode 0700):
#   bin/      the newest scripts                      lock      who works here
#   log/      one log a run; latest.log: the newest   children  held by the docker commands of whoever works here
#   compose/  Compose files as they were              tmp/      of the running step
#   releases/ current previous prepared               what the server keeps: releases.sh
#   backups/  dumps of the database                   history.jsonl  a line a rollout
#   boot      how long the last start took: rolling.sh       refusing  whose connections are refused: connections.sh
# shellcheck disable=SC2016  # Single quotes: programs for awk and for containers, and commands named in messages.
set -euf
IFS='
' # Lists are values separated by line breaks, and no value holds one.
export LC_ALL=C
umask 077
# When the connection is cut, the step runs on to its end: half a rollout is worse than one nobody watches.
trap '' HUP PIPE
# Where the processor is short, visitors and the new container come first. Not 19: a rollout must come to its end.
renice -n 15 -p $$ >/dev/null 2>&1 || : # util-linux or BSD; without it nothing but this is different

LOCK_WAIT=60 # seconds to wait for another step to end, if --timeout is not shorter

# shellcheck source=server/messages.sh
. "${0%/*}/messages.sh"
# shellcheck source=server/commands.sh
. "${0%/*}/commands.sh"
# shellcheck source=server/compose_file.sh
. "${0%/*}/compose_file.sh"
# shellcheck source=server/environment.sh
. "${0%/*}/environment.sh"
# shellcheck source=server/containers.sh
. "${0%/*}/containers.sh"
# shellcheck source=server/health.sh
. "${0%/*}/health.sh"
# shellcheck source=server/public.sh
. "${0%/*}/public.sh"
# shellcheck source=server/releases.sh
. "${0%/*}/releases.sh"
# shellcheck source=server/assets.sh
. "${0%/*}/assets.sh"
# shellcheck source=server/database.sh
. "${0%/*}/database.sh"
# shellcheck source=server/preparation.sh
. "${0%/*}/preparation.sh"
# shellcheck source=server/in_place.sh
. "${0%/*}/in_place.sh"
# shellcheck source=server/staged.sh
. "${0%/*}/staged.sh"
# shellcheck source=server/connections.sh
. "${0%/*}/connections.sh"
# shellcheck source=server/proxies.sh
. "${0%/*}/proxies.sh"
# shellcheck source=server/rolling.sh
. "${0%/*}/rolling.sh"

set_option() { # OPTION VALUE
    case $2 in
        '') misuse "$1: the value is empty" ;;
        *"$IFS"*) misuse "$1: a line break cannot be part of a value" ;;
    esac
    case $1 in
        --directory) directory=${2%/} ;;
        --script-name) script_name=$2 ;;
        --release) release=$2 ;;
        --image) image=$2 ;;
        --service) services=$services${services:+$IFS}$2 ;;
        --timeout) timeout=$2 ;;
        --asset) assets=$assets${assets:+$IFS}${2%/} ;;
        --port) port=$2 ;;
        --path) path=$2 ;;
        --status) wanted_status=$2 ;;
        --contains) contains=$contains${contains:+$IFS}$2 ;;
        --header) headers=$headers$2$IFS ;;
        --url) url=$2 ;;
        --settle) settle=$2 ;;
        --log-file) log_files=$log_files${log_files:+$IFS}$2 ;;
        --strategy) strategy=$2 ;;
        --actor) actor=$2 ;;
        --limit) limits=$limits$2$IFS ;;
        --assets-from) assets_from=$2 ;;
        --precompile-memory) precompile_memory=$2 ;;
        --pending) pending_command=$pending_command${pending_command:+$IFS}$2 ;;
        --migrate) migrate=$migrate${migrate:+$IFS}$2 ;;
        --migrations) migrations=$2 ;;
        --before-up) before_up=$before_up$2$IFS ;;
        --after-up) after_up=$after_up$2$IFS ;;
        --worker-quiet) worker_quiet=$worker_quiet${worker_quiet:+$IFS}$2 ;;
        --maintenance-page) maintenance_page=$2 ;;
        --downtime-budget) downtime_budget=$2 ;;
        --keep-releases) keep_releases=$2 ;;
        --backup-service) backup_service=$2 ;;
        --backup-database) backup_database=$2 ;;
        --backup-user) backup_user=$2 ;;
        --backup-command) backup_command=$backup_command${backup_command:+$IFS}$2 ;;
        --backup-keep) backup_keep=$2 ;;
        --restore-on-failure) restore_on_failure=$2 ;;
        *) misuse "unknown option '$1'" ;;
    esac
}

check_number() { # OPTION VALUE
    case $2 in '' | *[!0-9]* | 0*) misuse "$1: '$2' is not a whole number above 0" ;; esac
    [ ${#2} -le 6 ] || misuse "$1: '$2' is too large"
}

check_arguments() { # [COMMAND …]
    case $directory in /?*) ;; *) misuse "--directory: '$directory' is not an absolute path" ;; esac
    check_number --timeout "$timeout"
    [ -n "$services" ] || misuse '--service is missing'
    for service in $services; do
        case $service in
            [!A-Za-z0-9_.]* | *[!A-Za-z0-9_.-]*) misuse "--service: '$service' is not the name of a Compose service" ;;
        esac
    done
    for asset in $assets; do
        case $asset/ in
            [!/]* | / | *//* | */./* | */../*) misuse "--asset: '$asset' is not an absolute path, or has '.' or '..'" ;;
        esac
    done
    case $step in
        install) check_script_name ;;
        dump) release=on-demand ;;
        *) check_image ;;
    esac
    case $strategy in in-place | staged | rolling) ;; *) misuse "--strategy: '$strategy' is unknown" ;; esac
    case $strategy:$step:$#:$assets in
        in-place:after-up:* | in-place:purge:*) misuse "the strategy $strategy has no step $step" ;;
        *:precompile:0:*) misuse 'precompile: the command is missing' ;;
        in-place:purge-assets:*:) misuse 'purge-assets: --asset is missing' ;;
        in-place:pull:* | in-place:precompile:* | in-place:*:0:*) ;;
        in-place:*) misuse "$step takes no command" ;;
        *:stop:* | *:purge-assets:* | *:verify:*) misuse "the strategy $strategy has no step $step" ;;
        *:pull:* | *:precompile:* | *:up:* | *:0:*) ;;
        *) misuse "$step takes no command" ;;
    esac
    case ${1-} in -*) misuse "the command '$1' begins with -" ;; esac
    case $strategy:$step in in-place:verify | staged:up | rolling:up) check_gate ;; esac
    [ "$strategy" = in-place ] || check_staged
}

check_staged() {
    case $actor in *[!A-Za-z0-9@._+-]*) misuse "--actor: '$actor' has other characters than letters, digits and @._+-" ;; esac
    case $assets_from in compile | image) ;; *) misuse "--assets-from: '$assets_from' is unknown" ;; esac
    case $migrations in stopped | compatible) ;; *) misuse "--migrations: '$migrations' is unknown" ;; esac
    case $restore_on_failure in '' | yes) ;; *) misuse "--restore-on-failure: '$restore_on_failure' is not yes" ;; esac
    case $precompile_memory in *[!0-9bkmgBKMG]*) misuse "--precompile-memory: '$precompile_memory' is no size" ;; esac
    case $maintenance_page in
        /* | .. | ../* | */../* | */..) misuse "--maintenance-page: '$maintenance_page' leaves the directory" ;;
    esac
    check_number --keep-releases "$keep_releases"
    check_number --backup-keep "$backup_keep"
    [ "$settle" = 0 ] || check_number --settle "$settle"
    [ -z "$downtime_budget" ] || [ "$downtime_budget" = 0 ] || check_number --downtime-budget "$downtime_budget"
    for limit in $limits; do check_number "--limit ${limit%%=*}" "${limit#*=}"; done
    for task in $before_up$after_up; do
        case ${task%%:*} in '' | *[!0-9]*) misuse "--before-up, --after-up: '$task' is not NUMBER:WORD" ;; esac
    done
}

check_script_name() { # sets hash
    hash=${script_name#rollout-}
    hash=${hash%.sh}
    case $hash in *[!0-9a-f]*) hash='' ;; esac
    [ ${#hash} -eq 12 ] && [ "$script_name" = "rollout-$hash.sh" ] ||
        misuse "--script-name: '$script_name' is not rollout-<12 hexadecimal digits>.sh"
}

check_image() { # sets repository and digest
    case $release in '' | [.-]* | *[!A-Za-z0-9_.-]*) misuse "--release: '$release' is not a tag" ;; esac
    digest=${image#*@}
    repository=${image%"@$digest"}
    tag=${repository##*:}
    repository=${repository%":$tag"}
    hex=${digest#sha256:}
    case $repository in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.:/-]*) image_is_wrong ;; esac
    case $tag in '' | [.-]* | *[!A-Za-z0-9_.-]*) image_is_wrong ;; esac
    case $hex in *[!0-9a-f]*) image_is_wrong ;; esac
    [ ${#hex} -eq 64 ] && [ "$image" = "$repository:$tag@sha256:$hex" ] || image_is_wrong
}

image_is_wrong() {
    misuse "--image: '$image' is not REPOSITORY:TAG@sha256:DIGEST"
}

check_gate() {
    check_number --port "$port"
    check_number --status "$wanted_status"
    case $path in /*) ;; *) misuse "--path: '$path' does not begin with /" ;; esac
    case $url in '' | http://?* | https://?*) ;; *) misuse "--url: '$url' is not an http(s) address" ;; esac
    for header in $headers; do
        case ${header%%:*} in
            '' | "$header" | *[!A-Za-z0-9-]*) misuse "--header: '$header' is not 'Name: value'" ;;
        esac
    done
}

start_log() { # one a run: pull begins it, the steps after it and its retries go on
    mkdir -p .releve/log
    log=.releve/$(readlink .releve/latest.log || :)
    case $step:$log in
        pull:*) ;;
        *:*-"$release.log")
            if [ -f "$log" ]; then
                log_start=$(wc -c <"$log")
                return
            fi
            ;;
    esac
    log=.releve/log/$(date -u +%Y%m%dT%H%M%SZ)-$release.log
    : >"$log"
    log_start=0
    ln -sfn "${log#.releve/}" .releve/latest.log
    keep_newest 50 .releve/log
}

take_lock() {
    exec 9>>.releve/lock 8>>.releve/children
    limit=$((now + LOCK_WAIT * 100))
    until flock -n 9; do
        clock
        [ "$now" -lt "$limit" ] && [ "$now" -lt "$deadline" ] ||
            fail "Another step works on $directory: $(cat .releve/lock)" 'Wait for its end, then try again.'
        sleep 0.2
    done
    locked=yes
    printf 'process %s, step %s, release %s, since %s\n' $$ "$step" "$release" "$(date -u +%FT%TZ)" >.releve/lock
}

clear_leftovers() { # of a killed run
    remove_oneoffs
    # Its docker commands hold `children` until they end.
    flock -n 8 || say 'waiting for a docker command of a killed run'
    until flock -n 8; do
        clock
        [ "$now" -lt "$deadline" ] ||
            fail 'A docker command of a killed run is still running.' 'Wait for its end, or end it.'
        sleep 0.2
    done
}

on_exit() {
    status=$?
    if [ "$status" -ne 0 ] && [ -n "$locked" ] && [ -z "$recorded" ]; then record failed || :; fi
    dismiss_guards
    rm -rf -- "$scratch" "${directory:?}/$CANDIDATE"
    [ "$status" -eq 0 ] || [ -n "$reported" ] || complain "$step: ended unexpectedly with status $status."
}

read_input() { # NAME BASE64 … end: each into a file of the step's own, $scratch/NAME
    name=''
    in_time cat >"$scratch/input" || fail 'Standard input stays open.'
    while IFS=' ' read -r name encoded; do
        case $name in
            compose-file) compose_file_given=yes ;;
            environment | registry-login) ;;
            end) break ;;
            *) misuse "standard input: '$name' is unknown" ;;
        esac
        printf '%s\n' "$encoded" | base64 -d >"$scratch/$name" || refuse "What arrived as $name is damaged." 'Try again.'
    done <"$scratch/input"
    [ "$name" = end ] || refuse 'Standard input ended early: the connection broke.' 'Try again.'
    rm -- "$scratch/input"
}

work_in() { # DIRECTORY: for temporary files
    scratch=$1
    trap on_exit EXIT
    trap 'exit 143' INT TERM
}

forget_environment() { # what would make Compose do something else than it does for a person in the directory
    for variable in $(env | sed -n 's/^\(COMPOSE_[A-Z0-9_]*\)=.*/\1/p') DOCKER_DEFAULT_PLATFORM; do
        unset "$variable"
    done
    case ${DOCKER_HOST-} in
        '' | unix://*) ;;
        *) refuse "DOCKER_HOST is $DOCKER_HOST: the containers would not be on this server." 'Unset it at login.' ;;
    esac
}

parse() { # ARGUMENT …: sets command_at, the number of arguments before those of the command
    command_at=$#
    step=${1-}
    case $step in
        install | pull | stop | purge-assets | precompile | up | verify | after-up | purge | dump) shift ;;
        *) misuse "'$step' is not a step" ;;
    esac
    while [ $# -gt 0 ]; do
        case $1 in
            --) break ;;
            --input-follows) input_follows=yes ;;
            --compose-file-follows) compose_file_given=yes ;;
            *)
                [ $# -gt 1 ] || misuse "'$1' is unknown, or has no value"
                set_option "$1" "$2"
                shift
                ;;
        esac
        shift
    done
    # The `--` itself is not part of the command.
    [ $# -eq 0 ] || command_at=$((command_at - $# + 1))
}

main() {
    directory='' script_name='' release='' image='' services='' timeout='' assets='' compose_file_given='' input_follows=''
    port='' path='' wanted_status='' contains='' headers='' url='' settle=0 log_files=''
    strategy=in-place actor='' limits='' assets_from=compile precompile_memory='' downtime_budget='' keep_releases=3
    pending_command='' migrate='' migrations=stopped before_up='' after_up='' maintenance_page='' worker_quiet='' trial='' proxies=''
    backup_service='' backup_database='' backup_user='' backup_command='' backup_keep=5 restore_on_failure=''
    digest='' locked='' recorded='' phase='' previous='' downtime='' measurer='' overlay='' oneoff_file='' project_name='' wanted_id=''
    step='' reported='' log='' override='' located='' processes='' publishing='' publisher='' unpublished='' making='' looking='' telling='' finding='' problem=''
    # A file opened by this script must not become one of the standard streams, should the caller have closed one.
    [ -e /proc/self/fd/0 ] || exec </dev/null
    [ -e /proc/self/fd/1 ] || exec >/dev/null
    [ -e /proc/self/fd/2 ] || exec 2>/dev/null
    parse "$@"
    phase=$step
    shift "$command_at"
    check_arguments "$@"
    web=${services%%"$IFS"*}
    clock
    since=$now
    end=$((now + timeout * 100))
    deadline=$end
    view=$directory
    cd -- "$directory" || refuse "There is no directory $directory for $(id -un) (app.directory)."
    forget_environment
    if [ "$step" = install ]; then
        # No file in the directory until every check has passed; the checks need the form of an image only.
        work_in "$(mktemp -d)"
        log=$scratch/log
        : >"$log"
        log_start=0
        image=releve.invalid/check:check@sha256:$(printf '%064d' 0)
        step_install
        return
    fi
    take_lock
    if [ -d .releve/tmp ]; then note_interrupted_run; fi
    work_in "$directory/.releve/tmp"
    dismiss_guards # of a killed run
    rm -rf -- "$scratch"
    mkdir -- "$scratch"
    printf '%s\n' "$step" >"$scratch/step"
    start_log
    oneoff_output=$log
    oneoff_name=releve-$(printf '%s' "$directory" | sha256sum | cut -c 1-12)
    [ -z "$input_follows" ] || read_input
    clear_leftovers
    case $strategy:$step in
        *:pull) step_pull "$@" ;;
        *:dump) step_dump ;;
        in-place:stop) step_stop ;;
        in-place:purge-assets) step_purge_assets ;;
        in-place:precompile) step_precompile "$@" ;;
        in-place:up) step_up ;;
        in-place:verify) step_verify ;;
        *:precompile) step_precompile_staged "$@" ;;
        *:up) step_up_staged "$@" ;;
        *:after-up) step_after_up ;;
        *:purge) step_purge ;;
    esac
}

note_interrupted_run() { # which had no chance to
    scratch=$directory/.releve/tmp
    killed_in=$(cat "$scratch/step" 2>/dev/null) || killed_in=unknown
    this_step=$step
    step=$killed_in
    record interrupted
    step=$this_step
    recorded=''
}

main "$@"
