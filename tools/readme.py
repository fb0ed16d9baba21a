"Write README.md and its pictures from nbs/index.ipynb: `python tools/readme.py`"
import re
from base64 import b64decode

from fastcore.nbio import read_nb, render_text

from lessons import config, filled, nbs

def shown(cell, pictures):
    "Markdown of a code cell's stored output; a picture is added to `pictures` and linked"
    image = next((o.data for o in cell.outputs if 'image/png' in o.get('data', {})), None)
    if image is None: return f'```\n{text}\n```' if (text := render_text(cell.outputs).strip()) else ''
    link = f'images/{cell.id}.png'
    pictures[nbs/link] = b64decode(image['image/png'])
    return f'![{image["text/plain"]}]({link})'

def cell_markdown(cell, pictures):
    "Markdown of one notebook cell"
    if cell.cell_type == 'markdown': return filled(cell.source)
    if 'hide' in cell.directives: return ''
    echo = cell.directives.get('echo') != 'false'
    cell.remove_directives()
    return '\n\n'.join(filter(None, [f'```python\n{cell.source}\n```' if echo else '', shown(cell, pictures)]))

def readme():
    "What the index makes: `{path: bytes}` of README.md and its pictures"
    files = {}
    md = '\n\n'.join(filter(None, [cell_markdown(c, files) for c in read_nb(nbs/'index.ipynb').cells]))
    # links relative to nbs/ become relative to the repository's root
    md = re.sub(r'\]\((?!\w+:|#)', '](nbs/', md) + '\n'
    return files | {config.config_path/'README.md': md.encode()}

if __name__ == '__main__':
    for path, content in readme().items(): path.write_bytes(content)
