"""The glossary: at the end of `nbs/glossary.md` a comment lists terms, each with the cell that
explains it. The explanation is that cell's, and is quoted from there"""
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastcore.nbio import read_nb
from lessons import nbs


@dataclass
class Entry:
    term: str      # as the glossary lists it
    path: Path     # the notebook that explains it, relative to the notebooks' folder
    cell: str      # id of the cell
    written: str   # the term as it stands there
    sentences: int # how many make up the explanation
    before: int    # how many of them stand before the one that holds the term

    @property
    def target(self):
        return 'term-' + re.sub(r'\W+', '-', self.term.lower()).strip('-')

# - [term](notebook.ipynb#cell "as written"), 2 sentences from 1 before
ENTRY = re.compile(r'''
    ^-[ ]\[(?P<term>[^\]]+)\]
    \((?P<path>[\w/]+\.ipynb)\#(?P<cell>[\w-]+)(?:[ ]"(?P<written>[^"]+)")?\)
    (?:,[ ](?P<sentences>\d)[ ]sentences(?:[ ]from[ ](?P<before>\d)[ ]before)?)?$''', re.M | re.X)

def entry(m):
    "`Entry` of a match of `ENTRY`"
    written = m['written'] or m['term']
    counts = int(m['sentences'] or 1), int(m['before'] or 0)
    return Entry(m['term'], Path(m['path']), m['cell'], written, *counts)

@lru_cache
def glossary():
    "The entries that `glossary.md` lists"
    text = (nbs/'glossary.md').read_text(encoding='utf-8')
    return [entry(m) for m in ENTRY.finditer(text)]

@lru_cache
def markdown_cells(path):
    return {c.id: c.source for c in read_nb(nbs/path).cells if c.cell_type == 'markdown'}

def place(e, text):
    """Where `text` explains the term: in bold or italics, or in front of a table's row.
    `(start, end)`"""
    word = re.escape(e.written)
    emphasised = rf'(?<![*\w])(\*\*?){word}[.,]?\1(?![*\w])'
    before_a_row = rf'(?<=^\| ){word}(?= \|)'
    m = re.search(f'{emphasised}|{before_a_row}', text, re.M | re.I)
    if not m:
        raise ValueError(f'glossary: {e.term}: cell {e.cell} of {e.path} has no "{e.written}" '
                         "in bold, in italics or in front of a table's row")
    return m.span()

# Behind a full stop, and what closes a bracket or emphasis behind it; not behind `et al.` and
# initials; in front of what may begin a sentence
SENTENCE_END = re.compile(
    r'(?:(?<=[.!?])|(?<=[.!?][)*])|(?<=[.!?][*][*]))'
    r'(?<!al\.)(?<![A-Z]\.)'
    r'\s+(?=[A-Z*`"(\[])')

def sentences(text): return SENTENCE_END.split(text)

def paragraph(text, start, end):
    "Where the paragraph or the list's item round `text[start:end]` begins and ends"
    begins = [text.rfind(mark, 0, start) + len(mark)
              for mark in ('\n\n', '\n- ') if mark in text[:start]]
    ends = [text.find(mark, end) for mark in ('\n\n', '\n- ', '\n|') if mark in text[end:]]
    return max(begins, default=0), min(ends, default=len(text))

def row_as_words(text, start):
    "A table's row from its first cell on, each of the other cells under its heading"
    headers = re.findall(r'^\|(.+)\|\n\|[-| :]+\|$', text[:start], re.M)
    header = headers[-1].split('|')
    row = text[start:].partition('\n')[0].rstrip(' |').split('|')
    columns = [(h.strip(), c.strip()) for h, c in zip(header[1:], row[1:])]
    return '; '.join(f'{heading}: {cell}' for heading, cell in columns if cell)

def sentences_round(e, text, start, end):
    "As many sentences as the entry names"
    first, last = paragraph(text, start, end)
    of_the_term = len(sentences(text[first:end])) - 1
    begin = of_the_term - e.before
    return ' '.join(sentences(text[first:last])[begin:begin + e.sentences])

def explanation(e):
    "Markdown of the sentences, or of the table's row, that explain the term"
    cells = markdown_cells(e.path)
    if e.cell not in cells:
        raise ValueError(f'glossary: {e.term}: {e.path} has no markdown cell {e.cell}')
    text = cells[e.cell]
    start, end = place(e, text)
    line_start = text.rfind('\n', 0, start) + 1
    if text[line_start:start] == '| ': said = row_as_words(text, start)
    else: said = sentences_round(e, text, start, end)
    said = re.sub(r' \(\[how\]\([^)]*\)\)', '', ' '.join(said.split()))
    # links are relative to the notebook
    said = re.sub(r'\[([^\]]+)\]\((?!https?:)[^)]*\)', r'\1', said).rstrip(':')
    # the last sentence in brackets, which opened in front of it
    if said.count(')') > said.count('('): said = said.removesuffix(')')
    return said if said[-1] in '.?!)' else f'{said}.'

def with_targets(path, cell_id, text):
    "A cell's markdown with a link's target on each term that the glossary takes from it"
    for e in glossary():
        if (e.path, e.cell) != (path, cell_id):
            continue
        start, end = place(e, text)
        text = f'{text[:start]}[{text[start:end]}]{{#{e.target}}}{text[end:]}'
    return text

def short_title(path):
    first_cell = next(iter(markdown_cells(path).values()))
    return re.match(r'# (Lesson \d+|.+)', first_cell)[1]

def glossary_list():
    """The entries in alphabetical order, each with its explanation and a link to where it
    stands"""
    for e in sorted(glossary(), key=lambda e: e.term.lower()):
        link = f'[{short_title(e.path)}]({e.path.as_posix()}#{e.target})'
        yield f'- **{e.term}**: {explanation(e)} {link}'

def within_the_site(text):
    "Links to a term's notebook as links to the term in it, which GitHub could not follow"
    return re.sub(r'\]\([\w/]+\.ipynb(#term-[\w-]+)\)', r'](\1)', text)
