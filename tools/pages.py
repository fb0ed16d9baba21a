"The site's pages beside the notebooks: `<!-- name -->` stands for what a function here makes"
import re

from glossary import ENTRY, glossary_list
from records import data_sets, gigabytes, samples
from work import assumed, hours, measured, on_the_sample

PARTS = {'data sets': data_sets, 'samples': samples, 'hours': hours, 'assumed': assumed,
    'measured': measured, 'gigabytes': gigabytes, 'minutes on the sample': on_the_sample}

def made_part(m):
    "What stands in the place of a placeholder"
    part = PARTS[m[1]]()
    return part if isinstance(part, str) else '\n'.join(part)

def filled_page(text):
    "A page's Markdown with its placeholders filled in"
    if ENTRY.search(text):
        text = ENTRY.sub('', text).rstrip()
        text += '\n\n' + '\n'.join(glossary_list())
    return re.sub(r'<!-- ([\w ]+) -->', made_part, text)
