"""A web server that says who it is, and finishes what it has begun when it is told to stop."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    # One write an answer: killed before it, HAProxy asks another server; after it, the answer is whole.
    wbufsize = -1

    def do_GET(self):
        body = f"hello from {os.environ['INSTANCE']}\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """HAProxy keeps the access log."""


server = ThreadingHTTPServer((os.environ["ADDRESS"], int(os.environ["PORT"])), Handler)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(f"serving on port {server.server_port}", flush=True)
server.serve_forever()
