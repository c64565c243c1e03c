#!/bin/sh
# Stands for docker: records its command line, then answers from files in $STUBS, or as a server would where all is well.
# In one go: some calls run side by side.
printf 'docker\037%s\036' "$(printf '%s\037' "$@")" >>"$STUBS/record"

answer() { # NAME DEFAULT
    if [ -e "$STUBS/$1.answer" ]; then cat "$STUBS/$1.answer"; else printf '%s\n' "$2"; fi
}

# shellcheck source=/dev/null  # What a test wants to be otherwise.
if [ -e "$STUBS/behaviour" ]; then . "$STUBS/behaviour"; fi

case "$*" in
    'compose create --remove-orphans') ;;
    'compose create '*) echo "$3 $3" >"$STUBS/created" ;;
    'compose version'*) answer compose-version 2.26.1 ;;
    'version'*) answer version 26.1.5 ;;
    *' config --quiet') ;;
    'compose config'*) cat docker-compose.yml ;;
    *' config --no-interpolate' | *' config') cat ;;
    'ps '*label=releve.project=*) answer leftover '' ;;
    'ps '*'status=created'*) # what was created last has not been started
        answer created "$(cat "$STUBS/created" 2>/dev/null)"
        rm -f "$STUBS/created"
        ;;
    'ps '*'{{.State}}'*) # one container a service, named after it
        answer project "$(sed -n 's/^  \([a-z0-9-]*\):$/\1 running \1/p' docker-compose.yml)"
        ;;
    'ps '*) # one container a service, named after it
        for word in "$@"; do
            case $word in label=com.docker.compose.service=*) answer containers "${word##*=}" ;; esac
        done
        ;;
    'image inspect'*) answer image "sha256:wanted" ;;
    'inspect'*HostConfig.Mounts*) answer subpaths '' ;;
    'inspect'*.Mounts*) answer mounts 'bind||true|/app/public|/srv/public' ;;
    'inspect'*RestartCount*) answer state '/shop-web-1 running, restarts: 0, started: today, image: sha256:wanted, process: 0' ;;
    'inspect'*NetworkMode*)
        answer network shop_default
        answer address 172.18.0.2
        ;;
    'inspect'*.Image*) answer running sha256:wanted ;;
    'wait '*) answer wait 0 ;;
    'context inspect'*) answer engine unix:///var/run/docker.sock ;;
esac
