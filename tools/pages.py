"""Text on the site's pages that is known elsewhere: it stands in the pages themselves, between
`<!-- name -->` and `<!-- /name -->`, as a function here makes it. So GitHub shows the same text as
the site. `python tools/pages.py` writes it anew, as `tools/readme.py` does"""
import re

from bench import benchmark_table, benchmarked_commands
from glossary import glossary_list
from lessons import nbs
from records import data_sets, gigabytes, samples
from work import assumed, hours, measured, on_the_sample

PARTS = {'data sets': data_sets, 'samples': samples, 'hours': hours, 'assumed': assumed,
    'measured': measured, 'gigabytes': gigabytes, 'minutes on the sample': on_the_sample,
    'glossary': glossary_list, 'benchmarks': benchmark_table, 'commands': benchmarked_commands}

PART = re.compile(r'(<!-- (?P<name>[\w ]+) -->)(?P<text>.*?)(<!-- /(?P=name) -->)', re.S)

def written_part(m):
    "A part of a page between its two marks, as its function makes it"
    text = PARTS[m['name']]()
    if not isinstance(text, str): text = '\n'.join(text)
    # a part on lines of its own has an empty line around it, so that tables are tables
    if m['text'].startswith('\n'): text = f'\n\n{text.strip()}\n\n'
    return f'{m[1]}{text}{m[4]}'

def written_page(text):
    "A page's Markdown with all parts written anew"
    return PART.sub(written_part, text)

def written_pages():
    "Every page with such a part: `{path: bytes}`"
    files = {}
    for path in sorted(nbs.glob('*.md')):
        text = path.read_text(encoding='utf-8')
        if PART.search(text): files[path] = written_page(text).encode()
    return files

if __name__ == '__main__':
    for path, content in written_pages().items(): path.write_bytes(content)
