"OHIF shows medtut's segmentations on the right voxels; with its files, which are not part of medtut"
import os
from pathlib import Path

import ohif
import pytest

FOLDER = os.environ.get('MEDTUT_OHIF', '')

@pytest.mark.minutes
@pytest.mark.skipif(not FOLDER, reason='MEDTUT_OHIF names no folder with the files of OHIF, which '
                                       '`npm pack @ohif/app` brings, in package/dist')
def test_the_viewer_shows_masks_in_their_place(tmp_path):
    "Axial, sagittal, coronal and oblique; `tools/ohif.py` says how it is measured"
    seen = ohif.look_at_all(Path(FOLDER), tmp_path)
    assert set(seen) == set(ohif.ORIENTATIONS)
    assert not [problem for problems in seen.values() for problem in problems]
