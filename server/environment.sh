# shellcheck shell=sh
# The file .env, where the configuration holds it: checked, tried before it is in place, replaced and put back whole.

take_environment() { # what arrived on standard input; sets view, the directory in which Compose finds it
    [ -f "$scratch/environment" ] || return 0
    if [ -f .env ] && cmp -s -- "$scratch/environment" .env; then return 0; fi
    refuse_lost_names
    # The project's directory with another .env: for trying the new release while nothing is changed yet.
    view=$scratch/project
    mkdir -- "$view"
    find . ! -name . -prune ! -name .env ! -name .releve | while IFS= read -r entry; do
        ln -s -- "$directory/$entry" "$view/$entry"
    done
    cp -- "$scratch/environment" "$view/.env"
}

refuse_lost_names() { # a file made by hand may hold what nobody has written into the configuration
    [ -f .env ] || return 0
    known=.releve/current/env
    if [ -f "$known" ] && cmp -s -- "$known" .env; then return 0; fi
    lost=$(names_in .env | while IFS= read -r name; do
        names_in "$scratch/environment" | grep -qxF -- "$name" || printf '%s\n' "$name"
    done)
    [ -z "$lost" ] || refuse "$directory/.env has names that the configuration lacks: $(each "$lost" words)" \
        'Add them to `env` in Pulumi.<stack>.yaml; or remove them from the file, if they are not needed.'
}

names_in() { # FILE
    sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}\([A-Za-z_][A-Za-z0-9_.]*\)[[:space:]]*[=:].*/\2/p' "$1"
}

put_environment() { # as the transaction's part
    view=$directory
    if [ ! -f "$scratch/environment" ]; then
        # That of a rollout which was interrupted, and whose configuration is not wanted any more.
        put_environment_back
        return
    fi
    if [ -f .env ] && cmp -s -- "$scratch/environment" .env; then return 0; fi
    : >.releve/transaction/env-placed
    replace_environment "$scratch/environment"
    say '.env is that of the release'
}

put_environment_back() {
    [ -e .releve/transaction/env-placed ] || return 0
    if [ -f .releve/transaction/env ]; then replace_environment .releve/transaction/env; else rm -f -- .env; fi
}

replace_environment() { # FILE
    ! cmp -s -- "$1" .env || return 0
    cat -- "$1" >.releve/env.new # for its owner only: see umask
    mv -f -- .releve/env.new .env
}
