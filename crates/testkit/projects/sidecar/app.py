"""Answers on the loopback alone; writes a line to its log for each request and each hangup."""

import signal
from http.server import BaseHTTPRequestHandler, HTTPServer

LOG = open("/var/log/app/log", "a", buffering=1, encoding="utf-8")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        LOG.write(f"asked for {self.path}\n")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from behind")

    def log_message(self, form, *values):
        pass


signal.signal(signal.SIGHUP, lambda *_: LOG.write("reloaded\n"))
with open("/dev/shm/word", "w", encoding="utf-8") as word:
    word.write("shared")
server = HTTPServer(("127.0.0.1", 8000), Handler)
LOG.write("started\n")
server.serve_forever()
