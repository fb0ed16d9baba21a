"The site as a reader meets it: built, served on 127.0.0.1, walked in headless Chromium with no other address to be had"
import shutil, subprocess, sys, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

import pytest
from playwright.sync_api import sync_playwright

from lessons import all_lessons, config, nbs, notebooks

pages = [path.relative_to(nbs).with_suffix('.html').as_posix() for path in [*notebooks(), *sorted(nbs.glob('*.md'))]] + ['search.html']
lesson_pages = [lesson.path.with_suffix('.html').name for lesson in all_lessons()]
each_lesson = pytest.mark.parametrize('page_name', lesson_pages)
flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync']

class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

def build_site(*args):
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '--quiet', *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

@pytest.fixture(scope='module')
def html(root, tmp_path_factory):
    "The built site's folder"
    out = tmp_path_factory.mktemp('site')
    build_site(root/'nbs', out)
    return out

@pytest.fixture(scope='module')
def address(html):
    "Where the site is served"
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(QuietHandler, directory=html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@pytest.fixture(scope='module')
def browser():
    path = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
    if not path: pytest.skip('no Chromium on the PATH: on Debian, apt-get install chromium')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()

@pytest.fixture
def open_page(browser, address):
    "Opens a page of the site in a window of its own; afterwards, nothing may have gone wrong in it"
    troubles, contexts = [], []
    def local(request):
        if request.request.url.startswith((address, 'data:', 'blob:')): return request.continue_()
        troubles.append(f'asks for {request.request.url}')
        request.abort()
    def open(name, width=1280, **options):
        context = browser.new_context(viewport=dict(width=width, height=900), **options)
        contexts.append(context)
        page = context.new_page()
        page.route('**/*', local)
        page.on('console', lambda m: troubles.append(f'{m.type}: {m.text}') if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda e: troubles.append(f'uncaught: {e}'))
        page.on('response', lambda r: troubles.append(f'{r.status} {r.url}') if r.status >= 400 else None)
        page.goto(address + name, wait_until='networkidle')
        return page
    yield open
    for context in contexts: context.close()
    assert not troubles

def test_builds_without_a_warning(html):
    "Where there is no browser, this much is still known"
    assert all((html/name).exists() for name in pages)

@pytest.mark.parametrize('name', pages)
def test_page_is_whole(open_page, address, name):
    "Images load and are described; links within the site lead to pages and headings that are there; no Markdown is left as it was typed"
    page = open_page(name)
    typed = page.evaluate('''() => {
        const text = document.querySelector('main').cloneNode(true)
        text.querySelectorAll('pre, code, script, style, mjx-container, .math, .output').forEach(e => e.remove())
        return text.textContent.match(/.*(\\]\\([^)\\s]+\\)|`[^`\\n]+`).*/g) }''')
    assert not typed
    # a browser leaves out images that are out of sight until the reader comes near; Sphinx makes up an alt text from the file's name
    images = page.evaluate('''() => Promise.all([...document.images].map(async i => {
        i.loading = 'eager'
        try { await i.decode() } catch { return i.src + ' is broken' }
        if (!i.alt || i.src.endsWith(i.alt.split('/').pop())) return i.src.slice(0, 99) + ' has no alt text' }))''')
    assert not list(filter(None, images))
    broken = page.evaluate('''async (address) => {
        const read = {}, broken = []
        for (const a of document.querySelectorAll('a[href]')) {
            if (!a.href.startsWith(address)) continue
            const [url, id] = a.href.split('#')
            read[url] ??= fetch(url).then(async r => [r.ok, new DOMParser().parseFromString(await r.text(), 'text/html')])
            const [ok, doc] = await read[url]
            if (!ok || (id && !doc.getElementById(decodeURIComponent(id)))) broken.push(a.href)
        }
        return broken }''', address)
    assert not broken

def test_search_finds(open_page):
    page = open_page('search.html?q=photometric')
    found = page.locator('#search-results li a').filter(visible=True)
    found.first.wait_for()
    assert lesson_pages[0] in {urlparse(href).path.rpartition('/')[2] for href in found.evaluate_all('all => all.map(a => a.href)')}

@each_lesson
def test_colab_and_download(open_page, address, page_name):
    page, notebook = open_page(page_name), page_name.replace('.html', '.ipynb')
    colab = f'https://colab.research.google.com/github/{config.user}/{config.repo}/blob/{config.branch}/nbs/{notebook}'
    links = page.locator('a[href*="colab.research.google.com"]').evaluate_all('all => all.map(a => a.href)')
    assert links and set(links) == {colab}
    assert page.locator('article a[href*="colab.research.google.com"] img').is_visible()
    download = page.locator('a.btn-download-source-button').get_attribute('href')
    assert page.request.get(address + download).body() == (nbs/notebook).read_bytes()

@each_lesson
def test_solutions_unfold(open_page, page_name):
    folds = open_page(page_name).locator('details.hide', has_text='Solution')
    assert folds.count() >= 3
    for fold in folds.all():
        code = fold.locator('.cell_input')
        assert not code.is_visible()
        fold.locator('summary').click()
        assert code.is_visible()
        assert '@title' not in code.inner_text()

@pytest.mark.parametrize('name', pages)
def test_fits_a_phone(open_page, name):
    page = open_page(name, width=390)
    page.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    menu = page.locator('.bd-sidebar-primary nav.bd-links, .bd-sidebar-primary .bd-toc-item').first
    assert not menu.is_visible()
    page.locator('.primary-toggle').first.click()
    menu.wait_for(state='visible')

def test_light_and_dark(open_page):
    "As the reader's system is, with a switch for those who want it otherwise"
    def shade(scheme):
        page = open_page('index.html', color_scheme=scheme)
        assert page.locator('.theme-switch-button').filter(visible=True).count() == 1
        return page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert shade('light') != shade('dark')

def test_formulas_are_set(root, html, open_page, tmp_path):
    "MathJax comes with the site: a page of one formula, made with the site's configuration, is typeset with no address outside"
    (tmp_path/'formula.md').write_text('# Formula\n\n$$\\frac{1}{2}$$\n')
    build_site('-c', root/'nbs', '-D', 'root_doc=formula', tmp_path, html/'formula')
    open_page('formula/formula.html').locator('article mjx-container').wait_for()
