"What test_datasets.py runs in a process of its own: a download that is killed"
from dataclasses import replace

from medtut.archives import SETS
from medtut.datasets import get_data


def fetch(remote, root):
    "Get siim_small from `remote`"
    files = {'siim_small.tgz': remote}
    ds = replace(SETS['siim_small'], files=files)
    registry = {'siim_small': ds}
    get_data('siim_small', 'real', root=root,
        registry=registry, progress=False)
