"Two processes at work in one folder: neither loses, or overwrites, what the other writes"
import os
import subprocess
import sys
from functools import partial

import pytest

from medtut.batch import Item, make_files
from medtut.files import atomic_write, half_path


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

def test_half_a_note_goes(tmp_path):
    "Of a kind of work, with its next run; another kind may be writing its own"
    for kind in 'png', 'convert':
        for ending in 'json', 'jsonl': half_path(tmp_path/f'.{kind}.{ending}').touch()
    made(tmp_path, 'png', ['a'])
    left = {path.name.split('.')[2] for path in halves(tmp_path)}
    assert left == {'convert'}
    assert len(halves(tmp_path)) == 2
