"""The site as a reader meets it: built, served on 127.0.0.1, walked in headless Chromium with no
other address to be had"""
import re
import runpy
from functools import cache
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlparse
from urllib.request import urlopen

import pytest
from browser import EDITIONS
from chromium import chromium, serving
from colab import offered
from lessons import all_lessons, config, nbs, notebooks
from playwright.sync_api import TimeoutError, expect
from site_build import build_site

sources = [*notebooks(), *sorted(nbs.glob('*.md'))]
pages = [path.relative_to(nbs).with_suffix('.html').as_posix() for path in sources]
pages.append('search.html')
lesson_pages = [lesson.path.with_suffix('.html').name for lesson in all_lessons()]

@pytest.fixture(scope='module')
def address(html):
    "Where the site is served"
    with serving(html) as address: yield address

@pytest.fixture(scope='module')
def browser():
    with chromium() as browser: yield browser

def watched_page(context, address, troubles):
    "A new page of a browser's context that adds to `troubles` whatever goes wrong in it"
    def note_request(request):
        if not request.url.startswith((address, 'data:', 'blob:')):
            troubles.append(f'asks for {request.url}')
    def note_message(message):
        if message.type in ('error', 'warning'):
            troubles.append(f'{message.type}: {message.text}')
    def note_error(error):
        troubles.append(f'uncaught: {error}')
    def note_response(response):
        if response.status >= 400:
            troubles.append(f'{response.status} {response.url}')
    page = context.new_page()
    page.on('request', note_request)
    page.on('console', note_message)
    page.on('pageerror', note_error)
    page.on('response', note_response)
    return page

# A page's own scripts and styles are loaded: formulas set, drawn twice
SETTLED = '''async () => {
    await window.MathJax?.startup?.promise
    const drawn = () => new Promise(requestAnimationFrame)
    await drawn()
    await drawn()
}'''

@pytest.fixture
def open_page(browser, address):
    "Opens a page of the site in a window of its own; afterwards, nothing may have gone wrong in it"
    troubles, contexts = [], []
    def open(name, width=1280, **options):
        context = browser.new_context(viewport=dict(width=width, height=900), **options)
        contexts.append(context)
        page = watched_page(context, address, troubles)
        page.goto(address + name)
        if options.get('java_script_enabled', True): page.evaluate(SETTLED)
        return page
    yield open
    for context in contexts: context.close()
    assert not troubles

@pytest.fixture(scope='module', params=lesson_pages)
def lesson_page(request, browser, address):
    "A lesson's page and its name, once for all that is asked of it, as a visitor leaves it"
    troubles, context = [], browser.new_context(viewport=dict(width=1280, height=900))
    page = watched_page(context, address, troubles)
    page.goto(address + request.param)
    yield page, request.param
    page.wait_for_load_state('networkidle')  # nothing is asked for later, either
    context.close()
    assert not troubles

def test_builds_without_a_warning(html):
    "Where there is no browser, this much is still known"
    assert all((html/name).exists() for name in pages)

# Markdown that is left as it was typed
TYPED = '''() => {
    const text = document.querySelector('main').cloneNode(true)
    const others = 'pre, code, script, style, mjx-container, .math, .output'
    text.querySelectorAll(others).forEach(e => e.remove())
    const found = text.textContent.match(/.*(\\]\\([^)\\s]+\\)|`[^`\\n]+`).*/g) || []
    const tables = [...document.querySelectorAll('main .output p')]
        .map(p => p.textContent).filter(words => /\\|\\s*-+\\s*\\|/.test(words))
    return [...found, ...tables]
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
# Of an element's text with what is behind it, by the formula of WCAG 2: 1 is none, 4.5 will do
CONTRAST = '''element => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number)
    const channel = c => c/255 <= .04045 ? c/255/12.92 : ((c/255 + .055)/1.055)**2.4
    const light = ([r, g, b]) => .2126*channel(r) + .7152*channel(g) + .0722*channel(b)
    const opaque = e => {
        const color = numbers(getComputedStyle(e).backgroundColor)
        return color[3] === 0 && e.parentElement ? opaque(e.parentElement) : color
    }
    const text = element.querySelector('pre') ?? element
    const shades = [numbers(getComputedStyle(text).color), opaque(text)].map(light)
    return (Math.max(...shades) + .05)/(Math.min(...shades) + .05)
}'''
LINKS = 'Array.from(document.querySelectorAll("a[href]"), a => a.href)'

# --- each page in one visit

class Visit(NamedTuple):
    "What a page showed on a phone, a window of 390 pixels"
    typed: list             # lines of Markdown that are left as they were typed
    images: list            # those that are broken or not described
    links: list             # addresses
    width: int              # of its content with all folds open
    menu_at_first: bool     # whether the menu is visible
    menu_when_asked: bool
    troubles: list

def menu_of(page):
    sidebar = '.bd-sidebar-primary'
    return page.locator(f'{sidebar} nav.bd-links, {sidebar} .bd-toc-item').first

def opens(page, menu):
    "Whether the button of the menu shows it"
    page.locator('.primary-toggle').first.click()
    try: menu.wait_for(state='visible', timeout=5000)
    except TimeoutError: return False
    return True

@pytest.fixture(scope='module')
def visit(browser, address):
    """Opens a page, once for all that is asked of it: `Visit`.

    One window goes from page to page: a new one for each takes three times the processor time"""
    context, troubles = browser.new_context(viewport=dict(width=390, height=900)), []
    page = watched_page(context, address, troubles)
    @cache
    def visit(name):
        troubles.clear()
        page.goto(address + name)
        menu = menu_of(page)
        menu_at_first = menu.is_visible()
        typed, images, links = map(page.evaluate, (TYPED, IMAGES, LINKS))
        page.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
        width = page.evaluate('document.documentElement.scrollWidth')
        menu_when_asked = opens(page, menu)
        page.evaluate(SETTLED)
        return Visit(typed, images, links, width, menu_at_first, menu_when_asked, [*troubles])
    yield visit
    context.close()

@pytest.fixture(scope='module')
def is_there(address):
    "Whether an address of the site leads to a page and, behind a #, to a place on it"
    @cache
    def ids(url):
        "Those of a page; `None` if there is no page"
        try:
            with urlopen(url) as response:
                page = response.read().decode(errors='replace')
        except HTTPError: return None
        return set(re.findall(r'\bid="([^"]+)"', page))
    def is_there(link):
        url, _, place = link.partition('#')
        found = ids(url)
        return found is not None and (not place or unquote(place) in found)
    return is_there

@pytest.mark.parametrize('name', pages)
def test_page_is_whole(visit, is_there, address, name):
    """Images load and are described; links within the site lead to pages and headings that are
    there; no Markdown is left as it was typed"""
    page = visit(name)
    assert not page.troubles
    assert not page.typed
    assert not [trouble for trouble in page.images if trouble]
    within = {link for link in page.links if link.startswith(address)}
    assert within, 'each page has at least the way home'
    assert not [link for link in within if not is_there(link)]

@pytest.mark.parametrize('name', pages)
def test_fits_a_phone(visit, name):
    page = visit(name)
    assert page.width <= 390
    assert not page.menu_at_first
    assert page.menu_when_asked

@pytest.mark.parametrize('name', pages)
def test_colab_where_it_installs(visit, name):
    "Colab is offered on a page that installs medtut there, and on no other"
    notebook = name.replace('.html', '.ipynb')
    installs = nbs/notebook in offered()
    links = [link for link in visit(name).links if 'colab.research.google.com' in link]
    assert any(link.endswith(f'/nbs/{notebook}') for link in links) == installs

# --- single pages

@pytest.mark.parametrize('words, name', [
    ('photometric', '01_dicom'), ('hounsfield', 'units'), ('anonymize', 'identity'),
    ('convert dicom to nifti', 'conversion'), ('window', 'display'), ('bounding box', 'masks'),
    ('pip', 'install')])
def test_search_finds(open_page, words, name):
    "In the reader's words too, which the page may not use"
    page = open_page(f'search.html?q={quote(words)}')
    # results come one by one
    expect(page.locator('.search-summary')).to_contain_text('Search finished')
    links = page.locator('#search-results li a').filter(visible=True)
    hrefs = links.evaluate_all('all => all.map(a => a.href)')
    assert f'{name}.html' in {urlparse(href).path.rpartition('/')[2] for href in hrefs}

def test_synonyms_are_of_pages(root):
    conf = runpy.run_path(str(root/'nbs/conf.py'))
    docs = {path.relative_to(nbs).with_suffix('').as_posix() for path in sources}
    assert set(conf['SYNONYMS']) <= docs

def test_colab_and_download(lesson_page, address):
    page, name = lesson_page
    notebook = name.replace('.html', '.ipynb')
    repository = f'{config.user}/{config.repo}/blob/{config.branch}'
    colab = f'https://colab.research.google.com/github/{repository}/nbs/{notebook}'
    to_colab = 'a[href*="colab.research.google.com"]'
    links = page.locator(to_colab).evaluate_all('all => all.map(a => a.href)')
    assert links
    assert set(links) == {colab}
    assert page.locator(f'article {to_colab} img').is_visible()
    download = page.locator('a.btn-download-source-button').get_attribute('href')
    assert page.request.get(address + download).body() == (nbs/notebook).read_bytes()

@pytest.mark.parametrize('name', EDITIONS)
def test_runs_here(open_page, is_there, address, name):
    "A button leads to the edition in the browser"
    button = open_page(name.replace('.ipynb', '.html')).locator('article a.run-here')
    assert button.is_visible()
    assert is_there(button.evaluate('a => a.href'))
    assert is_there(f'{address}lite/files/{name.rpartition("/")[2]}')

# What of a fold can be seen, and once its summary has been clicked on
UNFOLD = '''folds => folds.map(fold => {
    const parts = selector => [...fold.querySelectorAll(selector)]
    const seen = selector => parts(selector).some(part => part.checkVisibility())
    const before = {code: seen('.cell_input'), output: seen('.cell_output')}
    fold.querySelector('summary').click()
    const text = fold.querySelector('.cell_input').innerText
    return {before, code: seen('.cell_input'), text}
})'''

def test_solutions_unfold(lesson_page):
    "With what comes out of them"
    given_away = re.compile(r'^\s*(Solution|Answer)')
    page, _ = lesson_page
    folds = page.locator('details.hide', has_text=given_away).evaluate_all(UNFOLD)
    assert len(folds) >= 3
    for fold in folds:
        assert fold['before'] == dict(code=False, output=False)
        assert fold['code']
        assert '@title' not in fold['text']

def test_quiz_answers(open_page):
    """By mouse and by keyboard; a second try does not count. A browser says that a fold was opened
    after the click is over, so the score is waited for"""
    page = open_page(lesson_pages[0])
    choices = page.locator('article details[name="quiz-1"]')
    wrong = choices.filter(has_text='No.').first
    right = choices.filter(has_text='Right.')
    score = page.get_by_role('status').filter(has_text='first try')
    assert not right.locator('p').is_visible() and not score.count()
    wrong.locator('summary').click()
    assert wrong.locator('p').is_visible() and not right.locator('p').is_visible()
    expect(score).to_contain_text('0 right at the first try')
    right.locator('summary').focus()
    page.keyboard.press('Enter')
    assert right.locator('p').is_visible() and not wrong.locator('p').is_visible()
    expect(wrong).to_have_class('wrong')
    expect(right).to_have_class('right')
    expect(score).to_contain_text('0 right at the first try')
    page.locator('article details[name="quiz-2"]', has_text='Right.').locator('summary').click()
    expect(score).to_contain_text('1 right at the first try')

@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_lesson_in_use(open_page, width, scheme):
    """A quiz is answered and an exercise unfolded, by light and by dark, on a desk and on a phone:
    nothing is wider than the window, and what is said can be told from what is behind it"""
    page = open_page(lesson_pages[1], width, color_scheme=scheme)
    wrong = page.locator('article details[name="quiz-1"]').filter(has_text='No.').first
    fold = page.locator('details.hide', has_text='Answer and usual mistakes').first
    for opened, said in (wrong, wrong.locator('p')), (fold, fold.locator('.cell_output')):
        assert not said.first.is_visible()
        opened.locator('summary').first.click()
        assert said.first.is_visible()
        assert said.first.evaluate(CONTRAST) > 4.5
    expect(wrong).to_have_class('wrong')
    assert 'Usual mistakes' in fold.locator('.cell_output').inner_text()
    assert page.evaluate('document.documentElement.scrollWidth') <= width

def test_keyboard_alone(open_page):
    "Tab leads to a quiz, Enter opens a choice, and what has the focus can be seen to have it"
    page = open_page(lesson_pages[8])
    choice = page.locator('article details[name="quiz-1"] summary').first
    has_focus = 'e => e === document.activeElement'
    choice.evaluate('e => e.addEventListener("focus", () => window.reached = true)')
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.innerText') == 'Skip to main content'
    page.keyboard.press('Enter')
    for _ in range(50): # links and folds of the whole lesson
        for _ in range(10): page.keyboard.press('Tab')
        if page.evaluate('window.reached'): break
    assert page.evaluate('window.reached')
    for _ in range(10): # back from where the last ten led
        if choice.evaluate(has_focus): break
        page.keyboard.press('Shift+Tab')
    assert choice.evaluate(has_focus)
    assert choice.evaluate("e => getComputedStyle(e).outlineStyle !== 'none'")
    page.keyboard.press('Enter')
    assert page.locator('article details[name="quiz-1"] p').first.is_visible()

@pytest.fixture(scope='module')
def axe(npm_package):
    "The program that looks for what shuts readers out"
    return (npm_package('axe-core@4.14.1')/'axe.min.js').read_text(encoding='utf-8')

# by dark it is the colours that differ
COLOURS = dict(type='rule', values=['color-contrast', 'link-in-text-block'])
RULES = dict(light={}, dark=dict(runOnly=COLOURS))

@pytest.mark.parametrize('scheme', RULES)
@pytest.mark.parametrize('name', ['index', '01_dicom', 'toolbox/metrics', 'your_file'])
def test_shuts_nobody_out(open_page, axe, name, scheme):
    "axe-core finds nothing that it calls serious or critical"
    page = open_page(f'{name}.html', color_scheme=scheme)
    page.set_default_timeout(120_000)
    page.evaluate(axe)
    options = dict(resultTypes=['violations']) | RULES[scheme]
    found = page.evaluate('options => axe.run(document, options)', options)['violations']
    severe = [f'{rule["id"]}: {rule["nodes"][0]["html"]}' for rule in found
              if rule['impact'] in ('serious', 'critical')]
    assert severe == []

def test_quiz_without_scripts(open_page):
    page = open_page(lesson_pages[0], java_script_enabled=False)
    choice = page.locator('article details[name="quiz-1"]').first
    choice.locator('summary').click()
    assert choice.locator('p').is_visible()

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
