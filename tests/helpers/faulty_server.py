"A web server on 127.0.0.1 that behaves, and misbehaves, as the hosts of the real sets do"
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType


class FaultyServer:
    """Serves `files` (path -> bytes) with Range, and takes one entry of `faults` an answer:
    a status (500, 404, 416 ...), ('cut', n) to hang up after n bytes, ('slow', bytes_per_second),
    'norange' to ignore Range, None for no fault; after them `always`"""

    def __init__(self, files, faults=(), redirects=None, always=None):
        self.files = files
        self.faults = list(faults)
        self.redirects = redirects or {}
        self.always = always
        self.log = []  # (path, Range asked for, status) of each answer

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *args): pass
            def do_GET(self): outer.answer(self)

        self.httpd = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.httpd.daemon_threads = True
        # clients that were killed are part of the plan
        self.httpd.handle_error = lambda *args: None
        serve = threading.Thread(target=self.httpd.serve_forever, args=(.05,), daemon=True)
        serve.start()
        self.url = f'http://127.0.0.1:{self.httpd.server_port}'
        return self

    def __exit__(self, *error):
        self.httpd.shutdown()
        self.httpd.server_close()

    @property
    def sent(self):
        return [asked for _, asked, _ in self.log]

    def status(self, path, fault, asked):
        "Status of the answer, as long as the range that was `asked` for lies in the file"
        if isinstance(fault, int): return fault
        if path in self.redirects: return 302
        if path not in self.files: return 404
        return 206 if asked and fault != 'norange' else 200

    def answer(self, h):
        path, _, _ = h.path.partition('?')
        asked = h.headers.get('Range')
        fault = self.faults.pop(0) if self.faults else self.always
        body = self.files.get(path, b'')
        status = self.status(path, fault, asked)
        start, stop = 0, len(body)
        if status == 206:
            start, stop = span(asked, len(body))
            if start >= len(body): status = 416
        self.log.append((path, asked, status))
        if status == 302:
            return bare(h, 302, {'Location': self.redirects[path]})
        if status == 416:
            return bare(h, 416, {'Content-Range': f'bytes */{len(body)}'})
        if status >= 400: return bare(h, status)
        h.send_response(status)
        h.send_header('Content-Length', str(stop - start))
        if status == 206:
            h.send_header('Content-Range', f'bytes {start}-{stop - 1}/{len(body)}')
        h.end_headers()
        send(h, body, start, stop, fault)


def span(asked, length):
    "First byte, and byte after the last one, that a Range header asks for"
    first, _, last = asked.removeprefix('bytes=').partition('-')
    stop = min(int(last) + 1, length) if last else length
    return int(first), stop

def bare(h, status, headers=MappingProxyType({})):
    "An answer without a body"
    h.send_response(status)
    h.send_header('Content-Length', '0')
    for name, value in headers.items():
        h.send_header(name, value)
    h.end_headers()

def send(h, body, start, stop, fault):
    "Bytes `start` to `stop`, cut off or slowly if that is the fault"
    kind, amount = fault if isinstance(fault, tuple) else (None, None)
    end, step = stop, 2**18
    if kind == 'cut':
        end = min(stop, start + amount)
    if kind == 'slow': step = amount//20
    for first in range(start, end, step):
        last = min(first + step, end)
        h.wfile.write(body[first:last])
        if kind == 'slow': time.sleep(.05)
    h.close_connection = end < stop
