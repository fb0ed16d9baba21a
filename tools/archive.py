"""An archive with phantoms and results to look at: `make archive`, until Ctrl-C

    python tools/archive.py                    prints its addresses
    python tools/archive.py --ohif FOLDER      and serves the viewer OHIF beside it

FOLDER holds OHIF's prebuilt files, which are not part of this project: `npm pack @ohif/app` brings
them, in package/dist of the archive that it writes. Everything is on 127.0.0.1 alone."""
import argparse
import mimetypes
import tempfile
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from medtut.datasets import get_data
from medtut.pacs import archive, store
from medtut.planes import VolumeError
from medtut.results import save_seg, save_sr
from medtut.volumes import load_series

OHIF_SETTINGS = """window.config = {name: 'medtut', routerBasename: null, extensions: [], modes: [],
  customizationService: {}, showStudyList: true, maxNumberOfWebWorkers: 2,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true, investigationalUseDialog: {option: 'never'},
  defaultDataSourceName: 'here', dataSources: [{sourceName: 'here',
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    configuration: {friendlyName: 'archive', name: 'archive', wadoUriRoot: '/wado',
      qidoRoot: '/dicom-web', wadoRoot: '/dicom-web', qidoSupportsIncludeField: false,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, dicomUploadEnabled: false,
      omitQuotationForMultipartRequest: true,
      bulkDataURI: {enabled: true, relativeResolution: 'studies'}}}]};"""

def fill(here):
    "Send two phantoms, and where they make a volume an outline of what is bright, with its measurements"
    top = get_data('duke_breast', 'sample', n=2, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        for i, series in enumerate(sorted({path.parent for path in top.rglob('*.dcm')})):
            store(here.web, series, progress=False)
            try: volume, affine = load_series(series, progress=False)
            except VolumeError: continue # one phantom lacks a slice, as some patients do
            mask = volume > np.percentile(volume, 99.5)
            seg = save_seg(mask, affine, series, Path(folder)/f'{i}.dcm', 'lesion')
            report = save_sr(seg, series, Path(folder)/f'{i}_sr.dcm')
            store(here.web, [seg, report], progress=False)

def name_types():
    "Tell Python's web server of types that not every system knows"
    for kind in ('text/javascript .js', 'text/javascript .mjs', 'application/wasm .wasm'):
        mimetypes.add_type(*kind.split())

def handler(files, port):
    "Answers with OHIF's files, and hands on to the archive what is for it"
    files = Path(files).resolve()
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        def log_message(self, *about): pass

        def do_GET(self):
            path = self.path.split('?')[0]
            if path.startswith(('/dicom-web', '/wado')): return self.hand_on()
            if path == '/app-config.js':
                return self.answer(200, 'text/javascript', OHIF_SETTINGS.encode())
            file = (files/path.lstrip('/')).resolve()
            if not file.is_relative_to(files) or not file.is_file(): file = files/'index.html'
            kind = mimetypes.guess_type(file.name)[0] or 'application/octet-stream'
            self.answer(200, kind, file.read_bytes())

        def hand_on(self):
            line = HTTPConnection('127.0.0.1', port, timeout=60)
            kept = {k: v for k, v in self.headers.items() if k.lower() in ('accept', 'range')}
            line.request('GET', self.path, headers=kept | {'Host': self.headers['Host']})
            r = line.getresponse()
            self.answer(r.status, r.headers.get('Content-Type', 'text/plain'), r.read())
            line.close()

        def answer(self, status, kind, data):
            self.send_response(status)
            for name, value in {'Content-Type': kind, 'Content-Length': len(data),
                    'Cross-Origin-Opener-Policy': 'same-origin',
                    'Cross-Origin-Embedder-Policy': 'require-corp'}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)
    return Handler

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ohif', metavar='FOLDER', help="OHIF's prebuilt files")
    ohif = parser.parse_args().ohif
    if ohif and not (Path(ohif)/'index.html').is_file():
        parser.error(f'{ohif} holds no index.html: give the folder dist of @ohif/app')
    name_types()
    with archive() as here:
        fill(here)
        print(here, flush=True)
        if ohif:
            server = ThreadingHTTPServer(('127.0.0.1', 0), handler(ohif, here.settings['http']))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(f'OHIF: http://127.0.0.1:{server.server_port}', flush=True)
        print('Ctrl-C stops it', flush=True)
        try: threading.Event().wait()
        except KeyboardInterrupt: print('stopped')

if __name__ == '__main__':
    main()
