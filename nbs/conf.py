"""The docs site: `make site`.

nbdev processes each notebook as Sphinx reads it; MyST-NB renders its stored outputs."""
import atexit
import gc
import json
import re
import sys
import warnings
from functools import cache
from importlib.metadata import metadata
from itertools import groupby
from pathlib import Path

import nbdev.config
from docutils import nodes
from fastcore.nbio import dict2nb, mk_cell, nb2str
from nbdev.processors import FilterDefaults
from sphinx.util.logging import getLogger

nbs = Path(__file__).parent
sys.path.insert(0, str(nbs.parent/'tools'))
from api import api_index, documented, exported_module, module_of_page, modules, public, target
from browser import EDITIONS, build as build_browser
from fold import gives_away
from glossary import with_targets, within_the_site
from lessons import config, filled, notebooks, read_lesson
from rooms import rooms
from signatures import line_numbers, with_signature

# nbdev runs a page's imports to document what it exports, and warns of each cell in which other
# lines stand beside them
warnings.filterwarnings('ignore', message='Found cells containing imports')

# nbdev reads pyproject.toml for each cell anew: a seventh of the build's time
nbdev.config._load_toml = cache(nbdev.config._load_toml)

project = html_title = config.lib_name
author = metadata(project)['Author']
release = config.version
extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx-mathjax-offline']
exclude_patterns = ['_*', '**.ipynb_checkpoints']
nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst' # outputs hold tables, which CommonMark does not know
myst_enable_extensions = ['amsmath', 'attrs_inline', 'deflist', 'dollarmath']
myst_heading_anchors = 4
suppress_warnings = ['myst.header']  # the headings of `show_doc` are all of level 3

html_theme = 'sphinx_book_theme'
html_theme_options = dict(
    repository_url=config.git_url, repository_branch=config.branch, path_to_docs=nbs.name,
    use_repository_button=True,
    launch_buttons=dict(colab_url='https://colab.research.google.com'),
    pygments_light_style='a11y-high-contrast-light',
    max_navbar_depth=1,  # the contents hold pages alone, whose headings each page lists itself
    navbar_persistent=[])  # the theme's default is a second search box
html_context = dict(default_mode='auto')  # light or dark, as the reader's system is
html_static_path = ['_static']
html_css_files = ['site.css', 'quiz.css']
html_js_files = ['quiz.js', 'access.js']
html_favicon = '_static/favicon.svg'

# Quarto cell options, which nbdev's directives become, and the tags that MyST-NB knows them by
TAGS = {('include', 'false'): 'remove-cell', ('echo', 'false'): 'remove-input',
    ('output', 'false'): 'remove-output',
    ('code-fold', 'true'): 'hide-input', ('code-fold', ''): 'hide-input'}

pages = [path.relative_to(nbs) for path in notebooks()]
lesson_pages = [path for path in pages if path.name[0].isdigit()]
toolbox_pages = [path for path in pages if path.parts[0] == 'toolbox']

# Words that readers look for and that a page does not use: the site's search finds it by them
SYNONYMS = {
    '01_dicom': 'hounsfield anonymize anonymise anonymization window windowing level PACS',
    '02_breast_mri': 'bounding box detection leakage mammography',
    '03_pneumothorax': 'x-ray xray radiograph chest',
    '06_segmentation': 'contour mask nnunet',
    'at_work': 'anonymize convert dicom nifti png export command line',
    'install': 'pip conda offline firewall proxy cpu pytorch setup windows',
    'toolbox/conversion': 'convert dicom nifti dcm2niix nii series',
    'toolbox/display': 'window windowing level brightness',
    'toolbox/identity': 'anonymize anonymise anonymization phi hipaa gdpr privacy',
    'toolbox/masks': 'bounding box dice hausdorff',
    'toolbox/pseudonyms': 'anonymize anonymise anonymization folder',
    'toolbox/units': 'hounsfield hu suv rescale',
    'your_file': 'viewer view open upload anonymize header tags browser'}

# --- Markdown

def api_link(m):
    "nbdev's link to a page's heading, as a link to the target above it; just the text if none"
    text, page, name = m[1], m[2], m[3]
    module = module_of_page(page)
    for n, o in public(module).items():
        if n.lower() == name and documented(o): return f'[{text}](#{target(module, n)})'
    return text

def admonition(m):
    "GitHub's `> [!WARNING]` as MyST's directive"
    kind, text = m[1].lower(), re.sub('^> ?', '', m[2], flags=re.M).rstrip()
    return f'````{{{kind}}}\n{text}\n````\n'

def page_here(m):
    "A link to a page of the published site, as the README has it, as one to the page itself"
    source, = (path for path in (f'{m[1]}.ipynb', f'{m[1]}.md') if (nbs/path).exists())
    return f']({source})'

def site_markdown(md):
    md = re.sub(r'\]\(\{homepage\}([\w/]+)\.html\)', page_here, md)
    md = re.sub(r'^> \[!(\w+)\]\n((?:>.*\n?)+)', admonition, md, flags=re.M)
    # a name that is a link's text already, which nbdev links too
    md = re.sub(r'\[\[(`[^`]+`)\]\([^)]*\)\](?=\()', r'[\1]', filled(md))
    return re.sub(r'\[(`[^`]+`)\]\(/([\w/]+\.html)#(\w+)[^)]*\)', api_link, md)

def documented_name(cell):
    "Of which name of the module a cell of `show_doc` speaks; none of a method"
    said = cell.outputs[-1].data['text/markdown'] if cell.outputs else ''
    m = re.search(r'^### (\w+)$', said, re.M)
    return m[1] if m else None

def in_order(cells, module):
    "nbdev documents the names of one cell from the last to the first; here, as they are defined"
    def place(cell):
        name = documented_name(cell)
        return line_numbers(module)[name] if name else 0
    for is_documentation, run in groupby(cells, shows_documentation):
        found = list(run)
        yield from sorted(found, key=place) if is_documentation else found

def shows_documentation(cell):
    return cell.cell_type == 'code' and cell.directive('output') == 'asis'

def show_doc_markdown(cell, module):
    "What `show_doc` says, with a target above its heading that no other heading can take"
    md = cell.outputs[-1].data['text/markdown']  # before it, fastcore's warnings
    md = re.sub(r'\A---+\n+', '', md)  # no line under a heading
    name = documented_name(cell)
    if name: md = with_signature(md, module, name)
    def heading(m): return f'({target(module, m[1])})=\n{m[0]}'
    return re.sub(r'^### (\w+)', heading, md, count=1, flags=re.M)

# --- cells

def describe_image(cell, output):
    "A picture's text form is its alt text, if it isn't Python's own"
    image_types = [kind for kind in output.get('data', {}) if kind.startswith('image/')]
    if not image_types: return
    words = ' '.join(''.join(output.data.get('text/plain', '<')).split())
    if not words.startswith('<'): cell.metadata['mystnb']['image'] = dict(alt=words)
    # the width is enough, and a narrow screen may shrink it
    output.metadata.get(image_types[0], {}).pop('height', None)

def open_key(output):
    "An answer key is folded by its cell; one fold is enough"
    if 'text/html' not in output.get('data', {}): return
    html = ''.join(output.data['text/html'])
    closed = '<details class="answer-key">'
    output.data['text/html'] = html.replace(closed, closed.replace('>', ' open>'))

def site_code_cell(cell):
    "Say in MyST-NB's terms what nbdev and the notebook say of a code cell"
    options = cell.directives
    is_answer = gives_away(cell)
    cell.remove_directives()
    cell.source = re.sub(r'\A#\s*@title.*\n?', '', cell.source)  # Colab's name of a folded cell
    tags = [tag for (option, value), tag in TAGS.items() if options.get(option) == value]
    # of a picture the code is folded; of an answer, what comes out as well
    if is_answer: tags = ['hide-cell']
    cell.metadata = dict(tags=tags, mystnb={})
    for_myst = cell.metadata['mystnb']
    if 'fig-alt' in options: for_myst['image'] = dict(alt=options['fig-alt'].strip('"'))
    if 'code-summary' in options:
        summary = options['code-summary'].strip('"')
        for_myst |= dict(code_prompt_show=summary, code_prompt_hide=summary)
    for output in cell.outputs:
        describe_image(cell, output)
        open_key(output)

def site_cell(path, cell):
    "A cell of the notebook at `path` for MyST-NB"
    if cell.cell_type == 'code':
        as_markdown = shows_documentation(cell)
        site_code_cell(cell)
        if as_markdown:
            cell.cell_type, cell.source = 'markdown', show_doc_markdown(cell, modules()[path])
    if cell.cell_type == 'markdown':
        cell.source = site_markdown(with_targets(path, cell.get('id'), cell.source))

# --- contents

def toctree(caption, docs):
    lines = ['```{toctree}', ':hidden:', f':caption: {caption}', '', *map(str, docs), '```']
    return mk_cell('\n'.join(lines), 'markdown')

def toolbox_contents():
    "Pages of the toolbox by the rooms of the package's map, in its order: `{room: pages}`"
    page_of = {exported_module(path): path for path in toolbox_pages}
    contents = {room: [page_of.pop(name) for name in names if name in page_of]
                for room, names in rooms().items()}
    contents['Tools'] += page_of.values()  # pages without a module
    return {room: docs for room, docs in contents.items() if docs}

def contents():
    "The site's contents, what a reader wants first before what holds it up"
    yield toctree('Lessons', lesson_pages)
    around = ['your_file', 'install', 'at_work.ipynb', 'capstone.ipynb', 'capstone_volumes.ipynb',
              'checklist', 'glossary', 'teaching']
    yield toctree('Around the lessons', around)
    for room, docs in toolbox_contents().items():
        if room == 'Data': docs = ['data', 'real', *docs]
        yield toctree(room, docs)
    yield toctree('Reference', ['api', 'features', 'benchmarks'])

# --- pages

def lesson_line(lesson):
    "What stands under a lesson's title, apart from what the lesson says itself"
    time = f' Minutes on two CPU cores: {lesson.time}, measured.' if lesson.time else ''
    here = run_here(lesson.path.relative_to(nbs))
    if lesson.number == 0: # where a first visit begins
        here = '(which asks for an account; [lesson 1](01_dicom.ipynb) also runs without one)'
    return f'{lesson.badge} {here}{time}'

def run_here(path):
    "A link to a notebook's edition in the browser, if it has one"
    if path.as_posix() not in EDITIONS: return ''
    up = '../'*(len(path.parts) - 1)
    address = f'{up}lite/notebooks/index.html?path={path.name}'
    return f'<a class="run-here" href="{address}">Run it here, in your browser</a>'

def prepare_notebook(path, text):
    "A notebook's text for MyST-NB"
    nb = dict2nb(json.loads(text))
    FilterDefaults()(nb)
    # the state of live sliders: on a page the stored outputs stand for them
    nb.metadata.pop('widgets', None)
    nb.cells = list(in_order(nb.cells, modules().get(path)))
    for cell in nb.cells: site_cell(path, cell)
    if path in lesson_pages:
        nb.cells.insert(1, mk_cell(lesson_line(read_lesson(nbs/path)), 'markdown'))
    elif run_here(path): nb.cells.insert(1, mk_cell(run_here(path), 'markdown'))
    if path.stem == 'index': nb.cells += contents()
    return nb2str(nb)

def prepare(app, docname, source):
    path = Path(f'{docname}.ipynb')
    if path in pages: source[0] = prepare_notebook(path, source[0])
    elif docname == 'api': source[0] += '\n'.join(api_index()) + '\n'
    else: source[0] = site_markdown(within_the_site(source[0]))
    made_from_other_pages = docname == 'index' or path not in pages
    if made_from_other_pages: app.env.note_reread()

def add_synonyms(app, doctree):
    words = SYNONYMS.get(app.env.docname, '')
    if words: doctree += nodes.meta(name='keywords', content=', '.join(words.split()))

def colab_where_it_runs(app, pagename, templatename, context, doctree):
    "The theme offers Colab on every notebook's page; here, on those that install medtut there"
    source = nbs/f'{pagename}.ipynb'
    if source.exists() and 'google.colab' in source.read_text(encoding='utf-8'): return
    buttons = context.get('header_buttons', [])
    context['header_buttons'] = [b for b in buttons if b['label'] != 'launch-buttons']

def describes_pictures(app, doctree, docname):
    "Warn of each picture without words for those who can't see it; `make site` takes no warning"
    warn = getLogger(__name__).warning
    for image in doctree.findall(nodes.image):
        if not image.get('alt', '').strip(): warn('a picture without alt text', location=image)
    for raw in doctree.findall(nodes.raw):
        for tag in re.findall(r'<img\b[^>]*>', raw.astext()):
            described = re.search(r'\balt=(["\'])\s*[^"\'\s]', tag)
            if not described: warn('a picture without alt text: %s', tag[:80], location=raw)

def run_in_the_browser(app, exception):
    "Beside the pages, what runs in the reader's browser"
    is_the_site = app.builder.format == 'html' and app.config.root_doc == 'index'
    if is_the_site and not exception: build_browser(Path(app.outdir)/'lite')

def leave_at_once(app, exception):
    """IPython collects garbage at exit for the shell of every page: with the million objects of a
    build in sight, that took longer than the build"""
    gc.freeze()

def setup(app):
    atexit.register(gc.unfreeze)  # called last: shells that are made later go before
    app.connect('build-finished', run_in_the_browser)
    app.connect('build-finished', leave_at_once)
    app.connect('source-read', prepare)
    app.connect('doctree-read', add_synonyms)
    app.connect('doctree-resolved', describes_pictures)
    # after the theme has made its buttons
    app.connect('html-page-context', colab_where_it_runs, priority=600)
