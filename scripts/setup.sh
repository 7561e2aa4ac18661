#!/usr/bin/env bash
# Installs what building, testing and the demo need and the machine lacks (Debian and Ubuntu).
# Usage: scripts/setup.sh [build|demo|test]...    A second run finds nothing to do.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

packages=()
reasons=()

want() { # package, reason
    packages+=("$1")
    reasons+=("$1: $2")
}

# Any program, not only Debian's, will do; so ask for what it can do rather than for packages.
can_compile_c() { printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null; }
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang.so*' >/dev/null
}
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
has_pip() { python3 -m pip --version >/dev/null 2>&1; }

is_available() { apt-cache show "$1" >/dev/null 2>&1; }

# Major of the newest installed server, whether or not its headers are there.
installed_server() {
    local major
    for major in $(supported_majors | sort -rn); do
        if [ -x "/usr/lib/postgresql/$major/bin/postgres" ]; then
            printf '%s\n' "$major"
            return
        fi
    done
    return 1
}

# Major of the server to install where there is none: the distribution's newest that we support.
available_server() {
    local major
    for major in $(supported_majors | sort -rn); do
        if is_available "postgresql-server-dev-$major"; then
            printf '%s\n' "$major"
            return
        fi
    done
    return 1
}

need_rust() {
    local cargo wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root_dir/Cargo.toml")
    cargo=$(find_cargo) || die "Rust is not installed (no cargo in PATH)" \
        "install Rust $wanted or newer for this user as https://rustup.rs says, then run make again"
    found=$("$cargo" --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -1)" = "$wanted" ] ||
        die "Rust $found is too old: $wanted or newer is needed" "rustup update stable"
}

need_postgresql() {
    local major
    if find_pg_config >/dev/null; then
        return
    fi
    if major=$(installed_server); then
        want "postgresql-server-dev-$major" "headers of the installed PostgreSQL $major"
        return
    fi
    refresh_lists
    if major=$(available_server); then
        want "postgresql-$major" "the database server"
        want "postgresql-server-dev-$major" "its headers"
    else
        die "no PostgreSQL of a supported version ($(supported_majors | xargs)) is installed or offered here" \
            "apt-get install postgresql-common && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh" \
            "then run make again"
    fi
}

# The manual of the server's version. Images that leave out /usr/share/doc are the demo's business.
need_manual() {
    local major
    major=$(find_pg_config >/dev/null && pg_major "$(find_pg_config)" || installed_server || available_server) || return 0
    [ -e "/usr/share/doc/postgresql-doc-$major" ] || want "postgresql-doc-$major" "the manual, which the demo reads"
}

need_build_tools() {
    can_compile_c || { want gcc "a C compiler and linker" && want libc6-dev "headers of the C library"; }
    command -v make >/dev/null || want make "runs the Makefile"
    has_libclang || want libclang-dev "reads PostgreSQL's headers"
    command -v clang >/dev/null || want clang "reads PostgreSQL's headers"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -n "${SSL_CERT_FILE:-}" ] ||
        want ca-certificates "downloads over TLS"
}

need_python() {
    command -v python3 >/dev/null || want python3 "$1"
    has_venv || want python3-venv "$1"
    has_pip || want python3-pip "$1"
}

lists_are_fresh=no
refresh_lists() {
    [ $lists_are_fresh = no ] || return 0
    need_apt
    warn "apt-get update"
    as_root apt-get update -q -o Acquire::Retries=3 >&2 || warn "apt-get update failed; going on with the lists at hand"
    lists_are_fresh=yes
}

need_apt() {
    command -v apt-get >/dev/null || die "something is missing, and this is no Debian or Ubuntu (no apt-get)" \
        "install PostgreSQL (${majors_text}) with headers, clang, libclang, a C compiler, make and Python 3 with venv and pip"
}

install_packages() {
    local switch=/etc/postgresql-common/createcluster.d/pg_answer.conf status=0
    need_apt
    say "To be installed with apt-get:"
    printf '  %s\n' "${reasons[@]}"
    refresh_lists
    # Debian makes and starts a cluster with each server; nothing here uses it, so no port is taken for it.
    as_root sh -c "mkdir -p ${switch%/*} && echo 'create_main_cluster = false' > $switch"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "${packages[@]}" </dev/null || status=$?
    as_root rm -f "$switch"
    [ $status -eq 0 ] || die "apt-get could not install: ${packages[*]}" "see its messages above"
}

majors_text=$(supported_majors | xargs)
need_rust
need_build_tools
need_postgresql
for purpose in "${@:-build}"; do
    case $purpose in
    build) ;;
    demo) need_manual && need_python "fetches models from package registries" ;;
    test)
        need_python "fetches models and runs the client tests"
        command -v ps >/dev/null || want procps "finds the servers' processes for the crash tests"
        ;;
    *) die "unknown purpose: $purpose" "scripts/setup.sh [build|demo|test]..." ;;
    esac
done
if [ ${#packages[@]} -gt 0 ]; then
    install_packages
    need_pg_config >/dev/null
fi
