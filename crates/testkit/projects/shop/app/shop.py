"""The shop: `migrate` makes its table, `serve` takes orders over HTTP, `work` fulfils them, `check` asks for its health."""

import os
import socket
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis


def database():
    with open(os.environ["DB_PASSWORD_FILE"], encoding="utf-8") as file:
        password = file.read()
    return psycopg2.connect(
        host=os.environ["DB_HOST"], user=os.environ["DB_USER"], password=password, dbname="postgres"
    )


def ask(query, *values):
    """The first row of what a query gives, in a transaction of its own."""
    connection = database()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def cache():
    return redis.Redis(host=os.environ["REDIS_HOST"])


def migrate():
    ask("CREATE TABLE IF NOT EXISTS orders (id SERIAL PRIMARY KEY, item TEXT NOT NULL, worker TEXT)")
    print("migrated", flush=True)


class Handler(BaseHTTPRequestHandler):
    def answer(self, text, status=200, **headers):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            with open("/etc/shop/greeting", encoding="utf-8") as file:
                self.answer(file.read())
        elif self.path == "/health":
            ask("SELECT 1")
            cache().ping()
            self.answer("well")
        elif self.path == "/count":
            known = cache().get("count")
            if known is not None:
                self.answer(known.decode(), X_Cache="hit")
                return
            count = str(ask("SELECT count(*) FROM orders")[0])
            cache().set("count", count, ex=3600)
            self.answer(count, X_Cache="miss")
        else:
            row = ask("SELECT item, worker FROM orders WHERE id = %s", self.path.rsplit("/", 1)[-1])
            if row is None:
                self.answer("no such order", 404)
            else:
                self.answer(f"{row[0]} {'open' if row[1] is None else 'done by ' + row[1]}")

    def do_POST(self):
        item = self.rfile.read(int(self.headers["Content-Length"])).decode()
        order = ask("INSERT INTO orders (item) VALUES (%s) RETURNING id", item)[0]
        cache().delete("count")
        cache().rpush("orders", order)
        self.answer(str(order))

    def log_message(self, form, *values):
        print("asked:", form % values, flush=True)


def work():
    me = socket.gethostname()
    while True:
        try:
            taken = cache().blpop("orders", timeout=5)
            if taken is not None:
                ask("UPDATE orders SET worker = %s WHERE id = %s", me, int(taken[1]))
                print("done", int(taken[1]), flush=True)
        except (redis.RedisError, psycopg2.Error) as error:
            print("tried in vain:", error, flush=True)
            time.sleep(0.5)


def main():
    deed = sys.argv[1]
    if deed == "migrate":
        migrate()
    elif deed == "serve":
        ThreadingHTTPServer(("", 8000), Handler).serve_forever()
    elif deed == "work":
        work()
    elif deed == "check":
        urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=5).read()


main()
