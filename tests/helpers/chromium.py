"A browser for tests of the site, and what serves it: on 127.0.0.1, with no other address to be had"
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import sync_playwright

FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']  # no other address is to be had
# and to draw what OHIF draws, in software
WITH_GL = [flag for flag in FLAGS if flag != '--disable-gpu'] + ['--use-gl=angle',
    '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist']
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'

class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@contextmanager
def serving(folder, handler=QuietHandler):
    "The address at which a folder is served"
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

def _installed():
    "The program of a browser; the test is skipped where none is installed"
    installed = [path for path in map(shutil.which, BROWSERS) if path]
    if not installed: pytest.skip('no Chromium on the PATH: on Debian, apt-get install chromium')
    return installed[0]

@contextmanager
def chromium(flags=FLAGS):
    "A browser; each of its contexts is a reader who has never been here"
    program = _installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()

@contextmanager
def reader_with(browser, profile):
    "The context of a reader who comes back: what a browser like `browser` kept lies in a folder"
    launch = browser.browser_type.launch_persistent_context
    context = launch(profile, executable_path=_installed(), args=FLAGS)
    yield context
    context.close()
