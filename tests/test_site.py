"""The site as a reader meets it: built, served on 127.0.0.1, walked in headless Chromium with no
other address to be had"""
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

import pytest
from lessons import all_lessons, config, nbs, notebooks
from playwright.sync_api import sync_playwright

sources = [*notebooks(), *sorted(nbs.glob('*.md'))]
pages = [path.relative_to(nbs).with_suffix('.html').as_posix() for path in sources]
pages.append('search.html')
lesson_pages = [lesson.path.with_suffix('.html').name for lesson in all_lessons()]
each_lesson = pytest.mark.parametrize('page_name', lesson_pages)
flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync']
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'

class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

def build_site(*args):
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '--quiet', *args]
    done = subprocess.run(command, capture_output=True, text=True)
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
    handler = partial(QuietHandler, directory=html)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@pytest.fixture(scope='module')
def browser():
    installed = [path for path in map(shutil.which, BROWSERS) if path]
    if not installed: pytest.skip('no Chromium on the PATH: on Debian, apt-get install chromium')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed[0], args=flags)
        yield browser
        browser.close()

@pytest.fixture
def open_page(browser, address):
    "Opens a page of the site in a window of its own; afterwards, nothing may have gone wrong in it"
    troubles, contexts = [], []
    def local(route):
        url = route.request.url
        if url.startswith((address, 'data:', 'blob:')): return route.continue_()
        troubles.append(f'asks for {url}')
        route.abort()
    def note_message(message):
        if message.type in ('error', 'warning'): troubles.append(f'{message.type}: {message.text}')
    def note_error(error): troubles.append(f'uncaught: {error}')
    def note_failure(response):
        if response.status >= 400: troubles.append(f'{response.status} {response.url}')
    def open(name, width=1280, **options):
        context = browser.new_context(viewport=dict(width=width, height=900), **options)
        contexts.append(context)
        page = context.new_page()
        page.route('**/*', local)
        page.on('console', note_message)
        page.on('pageerror', note_error)
        page.on('response', note_failure)
        page.goto(address + name, wait_until='networkidle')
        return page
    yield open
    for context in contexts: context.close()
    assert not troubles

def test_builds_without_a_warning(html):
    "Where there is no browser, this much is still known"
    assert all((html/name).exists() for name in pages)

# Markdown that is left as it was typed
TYPED = '''() => {
    const text = document.querySelector('main').cloneNode(true)
    const others = 'pre, code, script, style, mjx-container, .math, .output'
    text.querySelectorAll(others).forEach(e => e.remove())
    return text.textContent.match(/.*(\\]\\([^)\\s]+\\)|`[^`\\n]+`).*/g)
}'''
# A browser leaves out images that are out of sight until the reader comes near; Sphinx makes up an
# alt text from the file's name
IMAGES = '''() => {
    const trouble = async i => {
        i.loading = 'eager'
        try { await i.decode() } catch { return i.src + ' is broken' }
        const made_up = i.src.endsWith(i.alt.split('/').pop())
        if (!i.alt || made_up) return i.src.slice(0, 99) + ' has no alt text'
    }
    return Promise.all([...document.images].map(trouble))
}'''
LINKS = '''async (address) => {
    const pages = {}, broken = []
    const read = async url => {
        const response = await fetch(url)
        const text = await response.text()
        return [response.ok, new DOMParser().parseFromString(text, 'text/html')]
    }
    for (const a of document.querySelectorAll('a[href]')) {
        if (!a.href.startsWith(address)) continue
        const [url, id] = a.href.split('#')
        pages[url] ??= read(url)
        const [ok, doc] = await pages[url]
        const missing = id && !doc.getElementById(decodeURIComponent(id))
        if (!ok || missing) broken.push(a.href)
    }
    return broken
}'''

@pytest.mark.parametrize('name', pages)
def test_page_is_whole(open_page, address, name):
    """Images load and are described; links within the site lead to pages and headings that are
    there; no Markdown is left as it was typed"""
    page = open_page(name)
    assert not page.evaluate(TYPED)
    troubles = page.evaluate(IMAGES)
    assert not [trouble for trouble in troubles if trouble]
    assert not page.evaluate(LINKS, address)

def test_search_finds(open_page):
    page = open_page('search.html?q=photometric')
    links = page.locator('#search-results li a').filter(visible=True)
    links.first.wait_for()
    hrefs = links.evaluate_all('all => all.map(a => a.href)')
    assert lesson_pages[0] in {urlparse(href).path.rpartition('/')[2] for href in hrefs}

@each_lesson
def test_colab_and_download(open_page, address, page_name):
    page, notebook = open_page(page_name), page_name.replace('.html', '.ipynb')
    repository = f'{config.user}/{config.repo}/blob/{config.branch}'
    colab = f'https://colab.research.google.com/github/{repository}/nbs/{notebook}'
    to_colab = 'a[href*="colab.research.google.com"]'
    links = page.locator(to_colab).evaluate_all('all => all.map(a => a.href)')
    assert links and set(links) == {colab}
    assert page.locator(f'article {to_colab} img').is_visible()
    download = page.locator('a.btn-download-source-button').get_attribute('href')
    assert page.request.get(address + download).body() == (nbs/notebook).read_bytes()

@each_lesson
def test_solutions_unfold(open_page, page_name):
    "With what comes out of them"
    given_away = re.compile(r'^\s*(Solution|Answer)')
    folds = open_page(page_name).locator('details.hide', has_text=given_away)
    assert folds.count() >= 3
    for fold in folds.all():
        code, output = fold.locator('.cell_input'), fold.locator('.cell_output')
        assert not code.is_visible()
        if output.count(): assert not output.first.is_visible()
        fold.locator('summary').first.click()
        assert code.is_visible()
        assert '@title' not in code.inner_text()

def test_quiz_answers(open_page):
    "By mouse and by keyboard; a second try does not count"
    page = open_page(lesson_pages[0])
    choices = page.locator('article details[name="quiz-1"]')
    wrong = choices.filter(has_text='No.').first
    right = choices.filter(has_text='Right.')
    score = page.get_by_role('status').filter(has_text='first try')
    assert not right.locator('p').is_visible() and not score.count()
    wrong.locator('summary').click()
    assert wrong.locator('p').is_visible() and not right.locator('p').is_visible()
    assert '0 right at the first try' in score.inner_text()
    right.locator('summary').focus()
    page.keyboard.press('Enter')
    assert right.locator('p').is_visible() and not wrong.locator('p').is_visible()
    assert (wrong.get_attribute('class'), right.get_attribute('class')) == ('wrong', 'right')
    assert '0 right at the first try' in score.inner_text()
    page.locator('article details[name="quiz-2"]', has_text='Right.').locator('summary').click()
    assert '1 right at the first try' in score.inner_text()

def test_quiz_without_scripts(open_page):
    page = open_page(lesson_pages[0], java_script_enabled=False)
    choice = page.locator('article details[name="quiz-1"]').first
    choice.locator('summary').click()
    assert choice.locator('p').is_visible()

@pytest.mark.parametrize('name', pages)
def test_fits_a_phone(open_page, name):
    page = open_page(name, width=390)
    page.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    sidebar = '.bd-sidebar-primary'
    menu = page.locator(f'{sidebar} nav.bd-links, {sidebar} .bd-toc-item').first
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
    """MathJax comes with the site: a page of one formula, made with the site's configuration, is
    typeset with no address outside"""
    (tmp_path/'formula.md').write_text('# Formula\n\n$$\\frac{1}{2}$$\n')
    build_site('-c', root/'nbs', '-D', 'root_doc=formula', tmp_path, html/'formula')
    open_page('formula/formula.html').locator('article mjx-container').wait_for()
