"Trees of folders: what can't be opened is told, and links to folders are followed, each folder once"
import os
import re
import shutil
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medtut.conversion import nifti_files, series_table
from medtut.dicom import find_dicoms, read_dicom, scan
from medtut.errors import DicomError
from medtut.nifti import save_nifti
from medtut.pairs import find_pairs
from medtut.pictures import png_files
from medtut.pseudonyms import deidentify_files

bundled = Path(pydicom.__file__).parent/'data'/'test_files'
KEY = b'known to everybody'

def dicom(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundled/'CT_small.dcm', path)
    return path

def pair(folder):
    for name in 'image', 'mask': save_nifti(np.zeros((4, 4, 4)), np.eye(4), folder/f'{name}.nii')

def below(paths, folder): return [path.relative_to(folder).as_posix() for path in paths]

@pytest.fixture
def locked(tmp_path, monkeypatch):
    "A folder of two patients, of which one can't be opened; root is refused by hand"
    folder = tmp_path/'in'/'Meier'
    dicom(tmp_path/'in'/'Huber'/'1.dcm')
    dicom(folder/'1.dcm')
    folder.chmod(0)
    def refusing(look):
        def looked(path='.'):
            if path in (folder, str(folder)): raise PermissionError(13, 'Permission denied', str(path))
            return look(path)
        return looked
    if os.access(folder, os.R_OK):
        for name in ('scandir', 'listdir'):
            monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    yield folder
    folder.chmod(0o755)

def test_a_folder_that_can_not_be_opened_is_a_row(locked):
    table = scan(locked.parent, progress=False)
    assert list(table.path) == [str(locked.parent/'Huber'/'1.dcm'), str(locked)]
    assert table.error[0] == ''
    assert table.error[1].startswith(f'{locked}: can not be opened (Permission denied)')
    with pytest.raises(DicomError, match='Permission denied'): read_dicom(locked)

def test_it_is_told_where_there_is_no_other(locked):
    assert find_dicoms(locked) == [locked]

def test_it_is_told_of_series(locked):
    with pytest.warns(UserWarning, match=f'1 of 2 files left out: {re.escape(str(locked))}: can not'):
        assert len(series_table(locked.parent, progress=False)) == 1

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make', [png_files, nifti_files, deidentify_files])
def test_it_is_a_failure(locked, tmp_path, make):
    settings = dict(key=KEY) if make is deidentify_files else {}
    table = make(locked.parent, tmp_path/'out', progress=False, **settings)
    reason = table.set_index('path').reason[str(locked)]
    assert 'Permission denied' in reason
    assert (table.status == 'failed').sum() == 1
    assert (table.status == 'written').sum() == 1

def test_it_is_told_of_pairs(tmp_path, locked):
    pair(locked.parent/'Huber')
    with pytest.warns(UserWarning, match=f'{re.escape(str(locked))}: can not be opened'):
        assert len(find_pairs(locked.parent)) == 1

def look_as_nobody(folder):
    "0 if somebody without rights is told of both folders; in a process of its own, which ends"
    for above in [folder, *folder.parents]:
        status = above.stat()
        if status.st_uid == 0 and str(above) != '/': above.chmod(status.st_mode | 0o055)
    (folder/'no entry').chmod(0)
    (folder/'names only').chmod(0o444)
    os.setuid(65534)
    try:
        assert below(find_dicoms(folder), folder) == [
            'IM1', 'names only/IM1', 'names only/sub', 'no entry']
        error = scan(folder, progress=False).error
        assert list(error != '') == [False, True, True, True]
        assert error[1:].str.contains('can not be opened .Permission denied').all()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0,
                    reason='only root becomes somebody else')
def test_as_somebody_without_rights(tmp_path):
    """A folder needs the permission to search for its files to be opened, and the one to read for
    their names to be known (POSIX.1, 4.5 File Access Permissions)"""
    for name in 'IM1', 'no entry/IM1', 'names only/IM1', 'names only/sub/IM1': dicom(tmp_path/name)
    child = os.fork()
    if not child: os._exit(look_as_nobody(tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

# --- links

links = pytest.mark.skipif(sys.platform == 'win32', reason='links need a right of their own')

@pytest.fixture
def linked(tmp_path):
    "A tree of links, as an archive lays it out: one patient is here, the others are elsewhere"
    folder, store = tmp_path/'in', tmp_path/'store'
    dicom(folder/'Huber'/'1.dcm')
    dicom(store/'p2'/'2.dcm')
    dicom(store/'p3'/'3.dcm')
    (folder/'a first one').symlink_to(folder/'Huber')  # by this name, and by its own
    (folder/'Meier').symlink_to(store/'p2')
    (folder/'round').symlink_to(folder)                # for ever, if one went on
    (store/'p3'/'back').symlink_to(store)
    (folder/'three').symlink_to(store/'p3')
    (folder/'lost').symlink_to(store/'gone')
    return folder

@links
def test_links_to_folders_are_followed(linked):
    assert below(find_dicoms(linked), linked) == ['Huber/1.dcm', 'Meier/2.dcm', 'three/3.dcm']
    assert below(find_dicoms(linked/'round'), linked) == [
        'round/Huber/1.dcm', 'round/Meier/2.dcm', 'round/three/3.dcm']
    assert len(scan(linked, progress=False)) == 3

@links
@pytest.mark.filterwarnings('ignore')
def test_copies_without_names_through_links(linked, tmp_path):
    "Nothing is changed where they lead, and no name of a link is in a copy's"
    store, out = tmp_path/'store', tmp_path/'out'
    before = {path: path.read_bytes() for path in store.rglob('*.dcm')}
    table = deidentify_files(linked, out, KEY, progress=False)
    assert below(map(Path, table.path), linked) == ['Huber/1.dcm', 'Meier/2.dcm', 'lost',
                                                   'three/3.dcm']
    assert list(table.status) == ['written', 'written', 'left out', 'written']
    assert {path: path.read_bytes() for path in store.rglob('*.dcm')} == before
    for path in table.out[table.out != '']:
        assert re.fullmatch('[0-9a-f]{12}/[0-9a-f]{16}.dcm', Path(path).relative_to(out).as_posix())
    copies = out.rglob('*')
    assert not [path for path in copies if path.is_symlink()]

@links
@pytest.mark.filterwarnings('ignore')
def test_results_that_a_link_leads_to_are_no_input(linked, tmp_path):
    "A link to the folder that holds both: what was written there is not read again"
    out = tmp_path/'store'/'out'
    (linked/'all').symlink_to(tmp_path/'store')
    for _ in range(2):
        table = deidentify_files(linked, out, KEY, progress=False)
        assert (table.out != '').sum() == 3

@links
def test_pairs_behind_links(tmp_path):
    (tmp_path/'in').mkdir()
    (tmp_path/'store').mkdir()
    pair(tmp_path/'store')
    (tmp_path/'in'/'a').symlink_to(tmp_path/'store')
    (tmp_path/'store'/'round').symlink_to(tmp_path/'in')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [pair.case for pair in find_pairs(tmp_path/'in')] == ['a']
