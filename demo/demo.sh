#!/usr/bin/env bash
# From nothing to questions answered from the PostgreSQL manual. Usage: demo/demo.sh [stop]
# DEMO_MINUTES: about how long embedding may take before whole chapters are left out (default 5).
set -euo pipefail
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

minutes=${DEMO_MINUTES:-5}
state=$(cache_dir)/demo
data=$state/data
sockets=$state/run
# The path of a socket has room for 107 bytes.
[ ${#sockets} -le 80 ] || sockets=/tmp/pg_answer-demo-$(id -u)
release_dir=${CARGO_TARGET_DIR:-$root_dir/target}/release
if is_root; then superuser=postgres; else superuser=$(id -un); fi
bindir=

# PostgreSQL does not run as root.
as_owner() {
    if is_root; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

sql() { "$bindir/psql" -X -q -v ON_ERROR_STOP=1 -h "$sockets" -p 5432 -U "$superuser" "$@"; }
value() { sql -d "$1" -Atc "$2"; }
is_running() { [ -d "$data" ] && as_owner "$bindir/pg_ctl" -D "$data" status >/dev/null; }
stop_cluster() { as_owner "$bindir/pg_ctl" -D "$data" -m fast -w stop >/dev/null; }

stage_number=0
begin=0
stage() {
    stage_number=$((stage_number + 1))
    begin=${EPOCHREALTIME/./}
    printf '\n[%s/7] %s\n' "$stage_number" "$*"
}
stage_done() {
    local ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
    printf '      done in %d.%03d s\n' $((ms / 1000)) $((ms % 1000))
}

make_folders() {
    local owner=$superuser
    if is_root; then
        install -d -m 755 "$(dirname "$state")" "$state"
        install -d -m 700 -o "$owner" "$sockets"
        chown "$owner" "$state"
    else
        mkdir -p "$state"
        install -d -m 700 "$sockets"
    fi
}

start_cluster() {
    local major=$1
    if [ -f "$data/PG_VERSION" ] && [ "$(cat "$data/PG_VERSION")" != "$major" ]; then
        say "      the old cluster is of PostgreSQL $(cat "$data/PG_VERSION"): beginning anew"
        ! is_running || stop_cluster
        rm -rf "$data"
    fi
    if [ ! -f "$data/PG_VERSION" ]; then
        as_owner "$bindir/initdb" -D "$data" -U "$superuser" -E UTF8 --locale=C.UTF-8 \
            --auth-local=trust --auth-host=reject >"$state/initdb.log" 2>&1 || die "initdb failed" "see $state/initdb.log"
    fi
    # Rewritten each time, so that a moved model folder or another socket folder is picked up.
    as_owner tee "$data/postgresql.auto.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$sockets'
port = 5432
pg_answer.model_path = '$(model_path)'
CONF
    if is_running; then
        say "      it is running"
        as_owner "$bindir/pg_ctl" -D "$data" reload >/dev/null
    else
        as_owner "$bindir/pg_ctl" -D "$data" -l "$data/server.log" -w start >/dev/null ||
            die "the cluster did not start" "see $data/server.log"
        say "      started in $data, reached through a socket in $sockets only"
    fi
}

# Folder of the manual's pages. Images that leave out /usr/share/doc get them from the package itself.
find_manual() {
    local html=/usr/share/doc/postgresql-doc-$1/html
    [ -e "$html/index.html" ] || html=$state/doc$html
    if [ ! -e "$html/index.html" ]; then
        command -v apt-get >/dev/null || die "the PostgreSQL manual is not installed" "it is looked for in $html"
        (cd "$(mktemp -d)" && apt-get download -q "postgresql-doc-$1" >&2 && dpkg-deb -x ./*.deb "$state/doc")
    fi
    printf '%s\n' "$html"
}

# The database is as good as the extension's SQL that made it: another script means another database.
load_manual() {
    local major=$1 script sum work
    script=$(cat "$("$pg_config" --sharedir)"/extension/pg_answer--*.sql | cksum)
    sum="$script $(cksum <"$release_dir/pg_answer_demo")"
    if [ "$(value postgres "SELECT count(*) FROM pg_database WHERE datname = 'manual'")" = 1 ] &&
        [ "$(value postgres "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'manual'")" = "$sum" ]; then
        say "      it is loaded: $(value manual 'SELECT count(*) FROM manual') passages"
        return
    fi
    work=$(mktemp -d)
    "$release_dir/pg_answer_demo" "$(find_manual "$major")" --model-path "$(model_path)" \
        --pages "$work/pages" >"$work/passages"
    sql -d postgres -c "DROP DATABASE IF EXISTS manual WITH (FORCE)" -c "CREATE DATABASE manual" 2>/dev/null
    (cd "$work" && sql -d manual -f "$here/load.sql")
    sql -d postgres -c "COMMENT ON DATABASE manual IS '$sum'"
    rm -r "$work"
    say "      $(value manual 'SELECT count(*) FROM manual') passages of $(value manual 'SELECT count(DISTINCT page) FROM manual') pages"
}

embed_manual() {
    if [ "$(value manual 'SELECT count(*) FROM manual WHERE embedding IS NULL')" = 0 ]; then
        say "      all passages have vectors"
        return
    fi
    sql -d manual -v minutes="$minutes" -f "$here/embed.sql" 2>&1 | sed -u 's/^.*\(NOTICE\|INFO\):  /      /'
}

if [ "${1:-}" = stop ]; then
    pg_config=$(need_pg_config)
    bindir=$("$pg_config" --bindir)
    if is_running; then stop_cluster && say "stopped"; else say "it is not running"; fi
    exit
fi
[ $# -eq 0 ] || die "usage: demo/demo.sh [stop]"

stage "Install what is missing"
"$root_dir/scripts/setup.sh" demo
pg_config=$(need_pg_config)
bindir=$("$pg_config" --bindir)
major=$(pg_major "$pg_config")
say "      PostgreSQL $major, $(cargo --version 2>/dev/null || "$(find_cargo)" --version)"
stage_done

stage "Build the extension and install it into PostgreSQL $major (minutes the first time)"
make -C "$root_dir" install
stage_done

stage "Pull the models into $(model_path)"
make -C "$root_dir" models
stage_done

stage "Start a throw-away cluster"
make_folders
start_cluster "$major"
stage_done

stage "Load the PostgreSQL manual as passages of at most 256 tokens"
load_manual "$major"
stage_done

stage "Turn the passages into vectors inside PostgreSQL"
embed_manual
stage_done

stage "Ask"
sql -d manual -At -f "$here/questions.sql"
stage_done

cat <<TEXT

Go on asking:
  $bindir/psql -h $sockets -p 5432 -U $superuser manual
  manual=# SELECT rag_answer('How do I make a copy of one table?');
  manual=# SELECT title, score FROM rag_retrieve('How do I make a copy of one table?');
Stop the cluster with: make demo-stop
TEXT
