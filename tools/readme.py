"Write README.md from nbs/index.ipynb: `python tools/readme.py`"
import re

from fastcore.nbio import read_nb, render_text

from lessons import config, filled, nbs

def cell_markdown(cell):
    "Markdown of one notebook cell, with its stored output"
    if cell.cell_type == 'markdown': return filled(cell.source)
    if 'hide' in cell.directives: return ''
    cell.remove_directives()
    output = render_text(cell.outputs).strip()
    return f'```python\n{cell.source}\n```' + (f'\n\n```\n{output}\n```' if output else '')

def readme():
    "The README's text"
    md = '\n\n'.join(filter(None, map(cell_markdown, read_nb(nbs/'index.ipynb').cells)))
    # links relative to nbs/ become relative to the repository's root
    return re.sub(r'\]\((?!\w+:|#)', '](nbs/', md) + '\n'

if __name__ == '__main__': (config.config_path/'README.md').write_text(readme(), encoding='utf-8')
