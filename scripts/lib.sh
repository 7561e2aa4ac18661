# shellcheck shell=bash
# What the other scripts share; sourced, never run.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf 'hint: %s\n' "$@" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as root: directly, or through sudo, which may ask for a password on a terminal only.
as_root() {
    if is_root; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        die "this needs root, and there is no sudo: $*" "run the command above as root, then make again"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

# The majors that the extension can be built for, oldest first: its cargo features.
supported_majors() { sed -n 's/^pg\([0-9][0-9]*\) = .*/\1/p' "$root_dir/Cargo.toml" | sort -n; }

pg_major() { "$1" --version | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p'; }

# Whether a pg_config belongs to a supported server that is installed together with its headers.
is_usable_pg_config() {
    local pg_config=$1
    [ -x "$pg_config" ] || return 1
    supported_majors | grep -qx "$(pg_major "$pg_config")" || return 1
    [ -x "$("$pg_config" --bindir 2>/dev/null)/postgres" ] && [ -f "$("$pg_config" --includedir-server)/postgres.h" ]
}

# All places where packages put servers, newest major first, then the one in PATH.
pg_config_candidates() {
    local major
    for major in $(supported_majors | sort -rn); do
        printf '%s\n' "/usr/lib/postgresql/$major/bin/pg_config" "/usr/pgsql-$major/bin/pg_config"
    done
    command -v pg_config || true
}

# Path of the pg_config to build with: $PG_CONFIG, or the newest usable one.
find_pg_config() {
    local pg_config
    if [ -n "${PG_CONFIG:-}" ]; then
        pg_config=$(command -v "$PG_CONFIG") || die "PG_CONFIG=$PG_CONFIG is no program"
        is_usable_pg_config "$pg_config" ||
            die "$pg_config has no server with headers of a supported version ($(supported_majors | xargs))"
        printf '%s\n' "$pg_config"
        return
    fi
    while read -r pg_config; do
        if is_usable_pg_config "$pg_config"; then
            printf '%s\n' "$pg_config"
            return
        fi
    done < <(pg_config_candidates)
    return 1
}

need_pg_config() {
    find_pg_config || die "no PostgreSQL server with headers was found" \
        "run scripts/setup.sh, or name one: make PG_CONFIG=/path/to/pg_config"
}

# cargo may live in a home folder that a non-login shell has not in its PATH.
find_cargo() {
    command -v "${CARGO:-cargo}" || {
        [ -x "$HOME/.cargo/bin/cargo" ] && printf '%s\n' "$HOME/.cargo/bin/cargo"
    }
}

# Folder of what may be thrown away and made again; clusters of root run as user postgres, who cannot read /root.
cache_dir() {
    if is_root; then
        printf '/var/cache/pg_answer\n'
    else
        printf '%s/pg_answer\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
    fi
}

# Where demo and tests keep the models.
model_path() { printf '%s\n' "${PG_ANSWER_MODEL_PATH:-$(cache_dir)/models}"; }
