"""What forks of a server have in memory before they begin: modules that commands import when they
are called, and what brain phantoms are drawn from"""
import gc

import medtut.cli
import medtut.conversion
import medtut.phantoms.chest_files
import medtut.pictures
import medtut.predict
import medtut.pseudonyms  # noqa: F401
from medtut.phantoms.brain_anatomy import atlas
from medtut.phantoms.brain_tumour import tumour_sites

tumour_sites()
for spacing in 3., 6.: atlas(spacing)

# a fork that looked for garbage among all this would copy it, page by page
gc.freeze()
