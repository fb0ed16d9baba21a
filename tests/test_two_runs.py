"Two processes at work in one folder: neither loses, or overwrites, what the other writes"
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from medtut import files as medtut_files
from medtut.batch import Item, make_files
from medtut.dicom import find_dicoms
from medtut.files import atomic_write, half_path, link


def write(text, target):
    with atomic_write(target, 'w') as f: f.write(text)

def open_text(text):
    "A group for `make_files`: each of its files holds `text`"
    return lambda _: partial(write, text)

def made(out, kind, targets, text=''):
    groups = [(text, [Item(target, recipe=text) for target in targets])]
    return make_files(groups, open_text, out, kind, {}, n_jobs=1, progress=False)

def fetching(target):
    "A process that is inside `atomic_write`, until something is written to it"
    script = ('import sys\nfrom medtut.files import atomic_write\n'
              'with atomic_write(sys.argv[1], "w") as f:\n'
              '    f.write("whole")\n    print("half", flush=True)\n    sys.stdin.read(1)\n')
    process = subprocess.Popen([sys.executable, '-c', script, str(target)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == 'half\n'
    return process

@pytest.mark.parametrize('targets', [[], ['fetched/1.2/b.png'], ['fetched/1.2/a.dcm.png']])
def test_a_file_that_another_process_is_writing_stays(tmp_path, targets):
    target = tmp_path/'fetched'/'1.2'/'a.dcm'
    target.parent.mkdir(parents=True)
    other = fetching(target)
    made(tmp_path, 'predict', targets)
    other.communicate('x')
    assert other.returncode == 0
    assert target.read_text() == 'whole'

def test_files_with_long_names_are_told_apart(tmp_path):
    "UIDs have 64 characters (PS3.5 9.1), and a half-written file's name holds the first 50"
    uid = '1.2.826.0.1.3680043.8.498.' + '1'*38
    other = fetching(tmp_path/f'{uid}.dcm')
    made(tmp_path, 'png', [f'{uid}.png'])
    other.communicate('x')
    assert (tmp_path/f'{uid}.dcm').read_text() == 'whole'

def test_a_stranger_s_file_stays(tmp_path):
    (tmp_path/'.notes.part').write_text('mine')
    (tmp_path/'a.parts').mkdir()
    (tmp_path/'.a.part').mkdir()
    made(tmp_path, 'png', ['a', 'notes'])
    assert (tmp_path/'.notes.part').read_text() == 'mine'
    assert (tmp_path/'.a.part').is_dir()

def killed(out, kind, target):
    "A run that ends while it writes: nothing is cleaned up"
    def save(path):
        half_path(path).write_text('half')
        os._exit(9)
    child = os.fork()
    if not child:
        groups = [(None, [Item(target)])]
        make_files(groups, lambda _: lambda _: save, out, kind, {}, n_jobs=1, progress=False)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

def halves(folder): return sorted(folder.rglob('*.part'))

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no os.fork')
@pytest.mark.parametrize('kind, target', [('png', 'a/b.png'), ('png', 'c.png')])
def test_what_a_killed_run_left_goes(tmp_path, kind, target):
    "With the next run of its kind, whether or not that asks for the same file"
    killed(tmp_path, kind, 'a/b.png')
    assert halves(tmp_path)
    made(tmp_path, 'convert', [target + '.nii'])
    assert halves(tmp_path), 'of another kind, which may be at work'
    made(tmp_path/'a', kind, ['other.png'])
    assert halves(tmp_path), 'of a run for another folder, which may be at work'
    made(tmp_path, kind, [target])
    assert not halves(tmp_path)

def test_two_kinds_of_work_do_not_write_one_file(tmp_path):
    """`medtut convert` and `medtut predict` both name their results *.nii.gz

    Each looks for strangers' files before it begins: the other may have written none by then."""
    def open_slowly(text):
        with pytest.raises(ValueError, match='another run'):
            made(tmp_path, 'predict', ['a.nii.gz', 'b.nii.gz'], 'labels')
        return open_text(text)
    groups = [('scan', [Item('b.nii.gz')])]
    make_files(groups, open_slowly, tmp_path, 'convert', {}, n_jobs=1, progress=False)
    assert (tmp_path/'b.nii.gz').read_text() == 'scan'
    assert not (tmp_path/'a.nii.gz').exists()
    assert made(tmp_path, 'predict', ['a.nii.gz'], 'labels')[0].status == 'written'

def test_a_file_that_goes_while_it_is_replaced(tmp_path, monkeypatch):
    "Another process may remove the old one at any moment"
    path = tmp_path/'a'
    path.write_text('old')
    copymode = medtut_files.shutil.copymode
    def late(src, dst):
        Path(src).unlink()
        copymode(src, dst)
    monkeypatch.setattr(medtut_files.shutil, 'copymode', late)
    write('new', path)
    assert path.read_text() == 'new'

@pytest.mark.parametrize('before', ['old', None], ids=['goes', 'comes'])
def test_a_file_that_goes_or_comes_when_it_is_looked_at(tmp_path, monkeypatch, before):
    "A pipe is written in place. A file never is: half of it could be read"
    path, look = tmp_path/'a', Path.stat
    if before: path.write_text(before)
    def other_process(self, **how):
        if self != path: return look(self, **how)
        try:
            found = look(self, **how)
            path.unlink()
            return found
        except FileNotFoundError:
            path.touch()
            raise
    with monkeypatch.context() as m:
        m.setattr(Path, 'stat', other_process)
        writing = atomic_write(path, 'w')
        f = writing.__enter__()
    f.write('new')
    f.flush()
    assert not os.path.exists(path) or not path.read_text()
    writing.__exit__(None, None, None)
    assert path.read_text() == 'new'

def test_a_copy_that_stops_half_way_has_no_name(tmp_path, monkeypatch):
    "Where a disk has no links, files are copied: half a copy would be taken for the whole"
    (tmp_path/'a').write_text('whole')
    def no_links(src, dst): raise PermissionError('no links here')
    def stopped(src, dst):
        Path(dst).write_text('who')
        raise OSError('the disk is full')
    monkeypatch.setattr(os, 'link', no_links)
    with monkeypatch.context() as m:
        m.setattr(medtut_files.shutil, 'copy2', stopped)
        with pytest.raises(OSError, match='full'): link(tmp_path/'a', tmp_path/'b')
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    link(tmp_path/'a', tmp_path/'b')
    assert (tmp_path/'b').read_text() == 'whole'

def test_half_a_file_is_no_dicom(tmp_path):
    "One that is fetched at this moment, or was when the run was killed, is not to be read"
    with atomic_write(tmp_path/'a.dcm') as f:
        f.write(bytes(128) + b'DICM')
        f.flush()
        assert find_dicoms(tmp_path) == []
    assert find_dicoms(tmp_path) == [tmp_path/'a.dcm']

def test_half_a_note_goes(tmp_path):
    "Of a kind of work, with its next run; another kind may be writing its own"
    for kind in 'png', 'convert':
        for ending in 'json', 'jsonl': half_path(tmp_path/f'.{kind}.{ending}').touch()
    made(tmp_path, 'png', ['a'])
    left = {path.name.split('.')[2] for path in halves(tmp_path)}
    assert left == {'convert'}
    assert len(halves(tmp_path)) == 2
