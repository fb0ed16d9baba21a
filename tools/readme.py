"""Write README.md and its pictures from nbs/index.ipynb, and what pages of the site take from
elsewhere (tools/pages.py): `python tools/readme.py`"""
import re
from base64 import b64decode

from fastcore.nbio import read_nb, render_text
from lessons import config, filled, nbs
from pages import written_pages


def picture(outputs):
    "The first output that is a picture, as the notebook stores it; None if there is none"
    for output in outputs:
        if 'image/png' in output.get('data', {}):
            return output.data

def shown(cell, pictures):
    "Markdown of a code cell's stored output; a picture is added to `pictures` and linked"
    image = picture(cell.outputs)
    if image:
        link = f'images/{cell.id}.png'
        pictures[nbs/link] = b64decode(image['image/png'])
        return f'![{image["text/plain"]}]({link})'
    text = render_text(cell.outputs).strip()
    return f'```\n{text}\n```' if text else ''

def cell_markdown(cell, pictures):
    "Markdown of one notebook cell"
    if cell.cell_type == 'markdown':
        return filled(cell.source)
    if 'hide' in cell.directives: return ''
    show_code = cell.directives.get('echo') != 'false'
    cell.remove_directives()
    code = f'```python\n{cell.source}\n```' if show_code else ''
    return joined([code, shown(cell, pictures)])

def joined(parts):
    return '\n\n'.join(part for part in parts if part)

def readme():
    "What the index makes: `{path: bytes}` of README.md and its pictures"
    files = {}
    md = joined([cell_markdown(c, files) for c in read_nb(nbs/'index.ipynb').cells])
    # links relative to nbs/ become relative to the repository's root
    md = re.sub(r'\]\((?!\w+:|#)', '](nbs/', md) + '\n'
    return files | {config.config_path/'README.md': md.encode()}

if __name__ == '__main__':
    for path, content in (readme() | written_pages()).items():
        path.write_bytes(content)
