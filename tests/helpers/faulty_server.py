"A web server on 127.0.0.1 that behaves, and misbehaves, as the hosts of the real sets do"
import threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyServer:
    """Serves `files` (path -> bytes) with Range, and takes one entry of `faults` an answer:
    a status (500, 404, 416 ...), ('cut', n) to hang up after n bytes, ('slow', bytes_per_second), 'norange' to ignore Range, None for no fault"""

    def __init__(self, files, faults=(), redirects=None, always=None):
        self.files, self.faults, self.redirects, self.always = files, list(faults), redirects or {}, always
        self.log = []  # (path, Range asked for, status) of each answer

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *args): pass
            def do_GET(self): outer.answer(self)

        self.httpd = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.httpd.daemon_threads = True
        self.httpd.handle_error = lambda *args: None  # clients that were killed are part of the plan
        threading.Thread(target=self.httpd.serve_forever, args=(.05,), daemon=True).start()
        self.url = f'http://127.0.0.1:{self.httpd.server_port}'
        return self

    def __exit__(self, *error):
        self.httpd.shutdown()
        self.httpd.server_close()

    @property
    def sent(self): return [entry[1] for entry in self.log]

    def bare(self, h, status, **headers):
        h.send_response(status)
        for k, v in (dict(Content_Length='0') | headers).items(): h.send_header(k.replace('_', '-'), v)
        h.end_headers()

    def answer(self, h):
        path, asked = h.path.partition('?')[0], h.headers.get('Range')
        fault = self.faults.pop(0) if self.faults else self.always
        body = self.files.get(path)
        status = fault if isinstance(fault, int) else 302 if path in self.redirects else 404 if body is None else 206 if asked and fault != 'norange' else 200
        start, stop = 0, len(body or b'')
        if status == 206:
            first, _, last = asked.removeprefix('bytes=').partition('-')
            start, stop = int(first), min(int(last) + 1 if last else len(body), len(body))
            if start >= len(body): status = 416
        self.log.append((path, asked, status))
        if status == 302: return self.bare(h, 302, Location=self.redirects[path])
        if status == 416: return self.bare(h, 416, Content_Range=f'bytes */{len(body)}')
        if status >= 400: return self.bare(h, status)
        h.send_response(status)
        h.send_header('Content-Length', str(stop - start))
        if status == 206: h.send_header('Content-Range', f'bytes {start}-{stop - 1}/{len(body)}')
        h.end_headers()
        kind, amount = fault if isinstance(fault, tuple) else (None, None)
        end = min(stop, start + amount) if kind == 'cut' else stop
        step = amount // 20 if kind == 'slow' else 2**18
        for i in range(start, end, step):
            h.wfile.write(body[i:min(i + step, end)])
            if kind == 'slow': time.sleep(.05)
        h.close_connection = end < stop
