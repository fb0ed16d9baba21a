"The docs site: `make site`. nbdev processes each notebook as Sphinx reads it; MyST-NB renders its stored outputs."
import importlib, inspect, json, re, sys, warnings
from importlib.metadata import metadata
from pathlib import Path

from docutils import nodes
from fastcore.nbio import dict2nb, mk_cell, nb2str, read_nb
from nbdev.config import nbpath2html
from nbdev.processors import FilterDefaults
from sphinx.util.logging import getLogger

nbs = Path(__file__).parent
sys.path.insert(0, str(nbs.parent/'tools'))
import bench
from lessons import config, filled, notebooks, read_lesson
from pages import filled_page, with_targets

# nbdev runs a page's imports to document what it exports, and warns of each cell in which other lines stand beside them
warnings.filterwarnings('ignore', message='Found cells containing imports')

project = html_title = config.lib_name
author = metadata(project)['Author']
release = config.version
extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx-mathjax-offline']
exclude_patterns = ['_*', '**.ipynb_checkpoints']
nb_execution_mode = 'off'
nb_merge_streams = True
myst_enable_extensions = ['amsmath', 'attrs_inline', 'deflist', 'dollarmath']
myst_heading_anchors = 4
suppress_warnings = ['myst.header']  # the headings of `show_doc` are all of level 3

html_theme = 'sphinx_book_theme'
html_theme_options = dict(
    repository_url=config.git_url, repository_branch=config.branch, path_to_docs=nbs.name, use_repository_button=True,
    launch_buttons=dict(colab_url='https://colab.research.google.com'),
    navbar_persistent=[],  # the theme's default is a second search box
)
html_context = dict(default_mode='auto')  # light or dark, as the reader's system is
html_static_path = ['_static']
html_css_files = ['site.css']
html_favicon = '_static/favicon.svg'

# Quarto cell options, which nbdev's directives become, and the tags that MyST-NB knows them by
tags = {('include', 'false'): 'remove-cell', ('echo', 'false'): 'remove-input', ('output', 'false'): 'remove-output',
    ('code-fold', 'true'): 'hide-cell', ('code-fold', ''): 'hide-cell'}

pages = [path.relative_to(nbs) for path in notebooks()]

def exported_module(path):
    "The module that a notebook exports, None if it exports none"
    cells = [c for c in read_nb(nbs/path).cells if c.has_directive('default_exp')]
    return cells[0].directive('default_exp') if cells else None

modules = {path: f'{config.lib_name}.{name}' for path in pages if (name := exported_module(path))}
# nbdev leaves the lesson's number out of a page's name
module_of_page = {nbpath2html(path).as_posix(): module for path, module in modules.items()}

def public(module):
    "What a module exports: `{name: object}`"
    module = importlib.import_module(module)
    return {name: getattr(module, name) for name in module.__all__}

def documented(o):
    "Has a heading of its own: nbdev documents what `def` and `class` define, and no named tuple"
    return inspect.isfunction(o) or inspect.isclass(o) and not hasattr(o, '_fields')

def target(module, name):
    "A link's target; Sphinx sees no capitals, and a module may have both `Chest` and `chest`"
    return f'{module}.' + re.sub('[A-Z]', lambda m: f'{m[0].lower()}-', name)

def api_link(m):
    "nbdev's link to a page's heading, as a link to the target above it; just the text where there is none"
    text, page, name = m[1], m[2], m[3]
    module = module_of_page[page]
    found = [n for n, o in public(module).items() if n.lower() == name and documented(o)]
    return f'[{text}](#{target(module, found[0])})' if found else text

def admonition(m):
    "GitHub's `> [!WARNING]` as MyST's directive"
    return f'````{{{m[1].lower()}}}\n' + re.sub('^> ?', '', m[2], flags=re.M).rstrip() + '\n````\n'

def site_markdown(md):
    md = re.sub(r'^> \[!(\w+)\]\n((?:>.*\n?)+)', admonition, md, flags=re.M)
    md = re.sub(r'\[\[(`[^`]+`)\]\([^)]*\)\](?=\()', r'[\1]', filled(md))  # a name that is a link's text already, which nbdev links too
    return re.sub(r'\[(`[^`]+`)\]\(/([\w/]+\.html)#(\w+)[^)]*\)', api_link, md)

def show_doc_markdown(cell, module):
    "What `show_doc` says, with a target above its heading that no other heading can take"
    md = cell.outputs[-1].data['text/markdown']  # before it, fastcore's warnings
    md = re.sub(r'\A---\n+', '', md)  # no line under a heading
    return re.sub(r'^### (\w+)', lambda m: f'({target(module, m[1])})=\n{m[0]}', md, count=1, flags=re.M)

def site_code_cell(cell):
    "Say in MyST-NB's terms what nbdev and the notebook say of a code cell"
    options = cell.directives
    cell.remove_directives()
    cell.source = re.sub(r'\A#\s*@title.*\n?', '', cell.source)  # Colab's name of a folded cell
    cell.metadata = dict(tags=[tag for (k, v), tag in tags.items() if options.get(k) == v], mystnb={})
    if 'fig-alt' in options: cell.metadata['mystnb']['image'] = dict(alt=options['fig-alt'].strip('"'))
    if 'code-summary' in options:
        summary = options['code-summary'].strip('"')
        cell.metadata['mystnb'] |= dict(code_prompt_show=summary, code_prompt_hide=summary)
    for o in cell.outputs:
        image = next((k for k in o.get('data', {}) if k.startswith('image/')), None)
        if not image: continue
        # a picture's text form describes it, if it isn't Python's own
        if not (alt := o.data.get('text/plain', '<')).startswith('<'): cell.metadata['mystnb']['image'] = dict(alt=alt)
        o.metadata.get(image, {}).pop('height', None)  # the width is enough, and a narrow screen may shrink it

def lesson_line(lesson):
    "What stands under a lesson's title, apart from what the lesson says itself"
    time = f' Minutes on two CPU cores: {lesson.time}, measured.' if lesson.time else ''
    return f'{lesson.badge}{time}'

def toctree(caption, docs):
    return mk_cell('\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *map(str, docs), '```']), 'markdown')

def prepare_notebook(path, text):
    "A notebook's text for MyST-NB"
    nb = dict2nb(json.loads(text))
    FilterDefaults()(nb)
    nb.metadata.pop('widgets', None)  # the state of live sliders: on a page the stored outputs stand for them
    for c in nb.cells:
        if c.cell_type == 'code':
            asis = c.directive('output') == 'asis'
            site_code_cell(c)
            if asis: c.cell_type, c.source = 'markdown', show_doc_markdown(c, modules[path])
        if c.cell_type == 'markdown': c.source = site_markdown(with_targets(path, c.get('id'), c.source))
    lessons, toolbox = [p for p in pages if p.name[0].isdigit()], [p for p in pages if p.parts[0] == 'toolbox']
    if path in lessons: nb.cells.insert(1, mk_cell(lesson_line(read_lesson(nbs/path)), 'markdown'))
    if path.stem == 'index':
        nb.cells += [toctree('Lessons', lessons), toctree('Around the lessons', ['checklist', 'glossary', 'teaching']),
            toctree('Data', ['data', 'real']), toctree('Toolbox', toolbox), toctree('Reference', ['api', 'features', 'benchmarks'])]
    return nb2str(nb)

def api_index():
    "Every module's public names, each with its docstring's first line and a link to where it is built"
    for path, module in modules.items():
        yield f'\n## {module}\n\nFrom []({path}).\n\n| Name | What it is |\n|-|-|'
        for name, o in sorted(public(module).items(), key=lambda kv: kv[0].lower()):
            doc = (inspect.getdoc(o) or '').partition('\n')[0] if documented(o) else ''
            # a name handed on from another module leads to where that one builds it
            link = f'[`{name}`](#{target(o.__module__, name)})' if documented(o) else f'[`{name}`]({path})'
            yield f'| {link} | {doc} |'

def prepare(app, docname, source):
    path = Path(f'{docname}.ipynb')
    if path in pages: source[0] = prepare_notebook(path, source[0])
    elif docname == 'api': source[0] += '\n'.join(api_index()) + '\n'
    elif docname == 'benchmarks':
        found = json.loads(bench.result.read_text(encoding='utf-8'))
        tables = {'{benchmarks}': bench.table(found),
                  '{commands}': bench.command_tables(found['commands'])}
        for mark, text in tables.items(): source[0] = source[0].replace(mark, text)
        source[0] = site_markdown(source[0])
        app.env.note_dependency(bench.result)
    else: source[0] = filled_page(source[0])
    if docname == 'index' or path not in pages: app.env.note_reread()  # made from other pages too

def describes_pictures(app, doctree, docname):
    "Warn of each picture without words for those who can't see it; `make site` takes no warning"
    for image in doctree.findall(nodes.image):
        if not image.get('alt', '').strip(): getLogger(__name__).warning('a picture without alt text', location=image)
    for raw in doctree.findall(nodes.raw):
        for tag in re.findall(r'<img\b[^>]*>', raw.astext()):
            if not re.search(r'\balt=(["\'])\s*[^"\'\s]', tag): getLogger(__name__).warning('a picture without alt text: %s', tag[:80], location=raw)

def setup(app):
    app.connect('source-read', prepare)
    app.connect('doctree-resolved', describes_pictures)
