#!/bin/sh
# Makes the database at the first start, then runs it.
set -eu
PATH=/usr/lib/postgresql/15/bin:$PATH
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$PGDATA" "$PGDATA.new"
    initdb -D "$PGDATA.new" -U "$DB_USER" --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile=/run/secrets/db_password --no-locale -E UTF8 >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
