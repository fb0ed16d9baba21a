"The site's pages beside the notebooks: what they take from elsewhere, and that no picture goes without words"
import re, subprocess, sys
from importlib.metadata import version

import pytest
from fastcore.nbio import mk_cell, new_nb, write_nb

import pages
from lessons import nbs
from medtut.archives import SETS

markdown = sorted(nbs.glob('*.md'))
each_page = pytest.mark.parametrize('path', markdown, ids=lambda p: p.name)

def test_each_page_is_in_the_contents():
    conf = (nbs/'conf.py').read_text(encoding='utf-8')
    assert {p.stem for p in markdown} <= set(re.findall(r"'(\w+)'", ' '.join(re.findall(r"toctree\('[\w ]+', (\[.+?\])\)", conf))))

@each_page
def test_placeholders_are_filled(path):
    filled = pages.filled_page(path.read_text(encoding='utf-8'))
    assert '<!--' not in filled and not re.search(r'\]\([\w/]+\.ipynb#\w+\)(?:, \d sentences.*)?$', filled, re.M)

def test_every_set_with_its_licence_and_call():
    page = pages.filled_page((nbs/'data.md').read_text(encoding='utf-8'))
    for s in SETS.values():
        assert all(said in page for said in (s.what, s.size, s.licence, s.page, f"get_data('{s.name}', 'real')", f"get_data('{s.name}', 'sample')"))
        assert page.count(f'### {s.name}\n') == page.count(f'### A sample of {s.name}\n') == 1
        assert f'| {s.name} |' in page, 'how the sample differs'

def test_glossary_page():
    page = pages.filled_page((nbs/'glossary.md').read_text(encoding='utf-8'))
    entries = pages.glossary()
    assert page.count('\n: ') == len(entries) > 100
    for e in entries: assert f'](#{e.target})' in page

def test_a_target_on_each_term():
    "Links of the glossary end at the words themselves, in the text as the site has it"
    for e in pages.glossary():
        text = pages.with_targets(e.path, e.cell, pages.markdown_cells(e.path)[e.cell])
        assert text.count(f'{{#{e.target}}}') == 1

def test_work_is_counted():
    "torchvision publishes the multiply-adds of ResNet18 for three channels: two operations each, and about as many twice more on the way back"
    from torchvision.models import ResNet18_Weights
    published = ResNet18_Weights.DEFAULT.meta['_ops']
    assert abs(pages.gflop('ResNet18, 224 x 224')/(3*2*published) - 1) < .1

SETTINGS = { # lesson -> what its cells say of epochs, sizes and parts, as the table of hours takes them
    2: ['epochs=8', 'epochs=12', '< .6,'], 3: ['epochs=18', 'size=128', '(.65, .15, .2)'], 4: ['epochs=12', 'epochs=16', 'widths=(16, 32, 64)'],
    5: ['fit_one_cycle(12', 'crop=120', '(.6, .1, .3)'], 6: ['n=112', '(48, 48, 48)', 'filters=(8, 8, 16, 32, 64)']}

@pytest.mark.parametrize('lesson', SETTINGS)
def test_hours_are_those_of_the_lessons(lesson):
    from lessons import all_lessons, read_nb
    path = next(l.path for l in all_lessons() if l.number == lesson)
    code = '\n'.join(c.source for c in read_nb(path).cells if c.cell_type == 'code')
    for setting in SETTINGS[lesson]: assert setting in code, f'lesson {lesson} has changed: see RUNS in tools/pages.py'

def test_features_name_the_installed_versions():
    page = (nbs/'features.md').read_text(encoding='utf-8')
    for name in 'fastai', 'monai':
        said = re.search(rf'{name} (\d[\d.]*\d)', page, re.I)[1]
        assert said.split('.')[:2] == version(name).split('.')[:2], f'{name} {version(name)} is installed: look at features.md again'

def test_no_picture_without_words(root, tmp_path):
    "Pictures without alt text make the build fail, wherever they come from; those that have it pass"
    pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='
    (tmp_path/'dot.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>')
    described = '![a dot](dot.svg)\n\n<p><img src="dot.svg" alt="a dot"></p>\n\n'
    (tmp_path/'page.md').write_text(f'# Page\n\n{described}![](dot.svg)\n\n<p><img src="dot.svg"></p>\n\n```{{toctree}}\nnotebook\n```\n')
    shown = dict(output_type='display_data', data={'image/png': pixel}, metadata={})
    cells = [mk_cell('# Notebook', 'markdown'), mk_cell('draw()', 'code', outputs=[shown]),
        mk_cell('draw()', 'code', outputs=[shown], metadata=dict(mystnb=dict(image=dict(alt='a dot'))))]
    write_nb(new_nb(cells), tmp_path/'notebook.ipynb')
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '--quiet', '-c', root/'nbs', '-D', 'root_doc=page', tmp_path, tmp_path/'html']
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stderr.splitlines() if 'a picture without alt text' in line]
    assert done.returncode != 0 and len(found) == 3 and sum('notebook.ipynb' in line for line in found) == 1, done.stderr
