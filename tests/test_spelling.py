"""British spelling in what people read: prose, docstrings, messages. Names in code stay as their
libraries spell them"""
import ast
import re

import pytest
from fastcore.nbio import read_nb
from lessons import config, nbs, notebooks

# American stems and the British ones. (Edema stays: data sets call a class so)
AMERICAN = {
    'behavior': 'behaviour', 'color': 'colour', 'favor': 'favour', 'neighbor': 'neighbour',
    'labor': 'labour', 'tumor': 'tumour', 'center': 'centre', 'fiber': 'fibre', 'gray': 'grey',
    'labeled': 'labelled', 'labeling': 'labelling', 'modeled': 'modelled', 'modeling': 'modelling',
    'signaling': 'signalling', 'traveled': 'travelled', 'canceled': 'cancelled',
    'defense': 'defence', 'aluminum': 'aluminium',
    'hemorrhag': 'haemorrhag', 'anesthe': 'anaesthe', 'pediatric': 'paediatric',
    'esophag': 'oesophag', 'anonymiz': 'anonymis', 'normaliz': 'normalis',
    'standardiz': 'standardis', 'organiz': 'organis', 'recogniz': 'recognis', 'summariz': 'summaris',
    'visualiz': 'visualis', 'optimiz': 'optimis', 'regulariz': 'regularis', 'randomiz': 'randomis',
    'analyze': 'analyse', 'generaliz': 'generalis', 'initializ': 'initialis', 'minimiz': 'minimis'}
WORD = re.compile(rf'\b(?:{"|".join(AMERICAN)})\w*', re.I)

# Not ours to spell: markup, code, addresses, titles of papers, values and names of others
NOT_PROSE = re.compile(
    r'```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+|<[^>]+>|\{\w+\}|"[^"\n]*"|doi:\S+', re.S)
# What others call themselves or their classes: a package, an organisation, a hospital; and rows of
# the benchmarks, which are named by their functions
NAMES = re.compile(
    'dicom.anonymizer|World Health Organization|Medical Center|standardize, against', re.I)

def american(text, names=()):
    "American words in prose, in order; neither `names` nor words in capitals, DICOM's values"
    words = WORD.findall(NAMES.sub(' ', NOT_PROSE.sub(' ', text)))
    return [word for word in words if word not in names and not word.isupper()]

def markdown(path):
    cells = read_nb(path).cells
    return [(cell.id, cell.source) for cell in cells if cell.cell_type == 'markdown']

def said_in_code(source):
    "Docstrings and messages of errors: whole sentences of a program"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ''
        elif isinstance(node, ast.Raise):
            strings = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            yield ' '.join(s for s in strings if isinstance(s, str))

def arguments(source):
    "Names of arguments: messages and docstrings speak of them"
    return {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}

package = sorted((config.config_path/'medtut').rglob('*.py'))
texts = sorted(nbs.glob('*.md')) + [config.config_path/name for name in
    ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md')]

@pytest.mark.parametrize('path', notebooks(), ids=lambda p: p.stem)
def test_prose_of_notebooks(path):
    found = [(id, american(text)) for id, text in markdown(path)]
    assert not [(id, words) for id, words in found if words]

@pytest.mark.parametrize('path', texts, ids=lambda p: p.name)
def test_prose_of_pages(path):
    assert not american(path.read_text(encoding='utf-8'))

@pytest.mark.parametrize('path', package, ids=lambda p: p.stem)
def test_docstrings_and_messages(path):
    source = path.read_text(encoding='utf-8')
    assert not american('\n\n'.join(said_in_code(source)), arguments(source))

def test_finds_and_leaves():
    "The oracle of the tests above"
    assert american('The Color of gray centers') == ['Color', 'gray', 'centers']
    assert not american('`color=` of [it](center.html), "a gray title" (https://x.org/gray)')
    assert not american('colour, grey, centre, labelled, size, prize')
