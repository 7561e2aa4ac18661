#!/usr/bin/env bash
# Installs or uninstalls what `make build` made.
# Usage: scripts/install.sh [uninstall]    Reads PG_CONFIG, DESTDIR, BINDIR, MODELDIR and CARGO_TARGET_DIR.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

pg_config=$(need_pg_config)
pkglibdir=${DESTDIR:-}$("$pg_config" --pkglibdir)
extension_dir=${DESTDIR:-}$("$pg_config" --sharedir)/extension
bindir=${DESTDIR:-}${BINDIR:-/usr/local/bin}
model_dir=${DESTDIR:-}${MODELDIR:-/var/lib/pg_answer/models}
release_dir=${CARGO_TARGET_DIR:-$root_dir/target}/release
version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$root_dir/pg_answer.control")

# Runs a command with the rights that writing to a path takes: the nearest folder that exists decides.
with_rights_on() {
    local dir=$1
    shift
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    if [ -w "$dir" ]; then "$@"; else as_root "$@"; fi
}

# Puts a file in place by a rename: running backends keep the old one, new ones see all of the new one.
put() { # mode, source, target
    local mode=$1 source=$2 target=$3 dir
    dir=$(dirname "$target")
    if cmp -s "$source" "$target" && [ "$(stat -c %a "$target")" = "$mode" ]; then return; fi
    [ -d "$dir" ] || with_rights_on "$dir" install -d -m 755 "$dir"
    with_rights_on "$dir" install -m "$mode" "$source" "$target.new"
    with_rights_on "$dir" mv -f "$target.new" "$target"
    say "installed $target"
}

drop() {
    local path
    for path in "$@"; do
        [ -e "$path" ] || continue
        with_rights_on "$(dirname "$path")" rm -f "$path"
        say "removed $path"
    done
}

install_all() {
    local script
    [ -n "$version" ] || die "pg_answer.control has no default_version"
    [ -f "$release_dir/libpg_answer.so" ] || die "nothing was built yet" "make build"
    # For all functions of a file to appear at once, the one installation script is made of the topics' files.
    script=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$script'" EXIT
    cat "$root_dir"/sql/*.sql >"$script"
    put 755 "$release_dir/libpg_answer.so" "$pkglibdir/pg_answer.so"
    put 644 "$script" "$extension_dir/pg_answer--$version.sql"
    for upgrade in "$root_dir"/sql/upgrade/pg_answer--*--*.sql; do
        [ ! -e "$upgrade" ] || put 644 "$upgrade" "$extension_dir/$(basename "$upgrade")"
    done
    put 644 "$root_dir/pg_answer.control" "$extension_dir/pg_answer.control"
    put 755 "$release_dir/pg_answer_model" "$bindir/pg_answer_model"
    [ -d "$model_dir" ] || with_rights_on "$model_dir" install -d -m 755 "$model_dir"
}

case ${1:-install} in
install) install_all ;;
# The models stay: they are large, and another version may want them.
uninstall) drop "$pkglibdir/pg_answer.so" "$extension_dir"/pg_answer--*.sql "$extension_dir/pg_answer.control" "$bindir/pg_answer_model" ;;
*) die "usage: scripts/install.sh [uninstall]" ;;
esac
