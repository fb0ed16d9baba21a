"A light install: what works without the packages of `medtut[train]`, and what the rest says"
import json
import re
import subprocess
import sys

import pytest

from medtut.extras import ARCHIVE, TRAIN

# Imports each module in its turn with the packages of `train` out of reach, and tells how it went
TRY_ALL = '''
import importlib, json, pkgutil, sys
for package in json.loads(sys.argv[1]): sys.modules[package] = None
import medtut
said = {}
for module in pkgutil.walk_packages(medtut.__path__, 'medtut.'):
    try: importlib.import_module(module.name)
    except ImportError as e: said[module.name] = str(e)
    else: said[module.name] = ''
print(json.dumps(said))
'''
# What people come for who read, show and measure; the page on the package says so too
LIGHT = ['dicom', 'identity', 'show', 'volumes', 'nifti', 'series', 'folders', 'tables', 'splits',
    'metrics', 'masks', 'intervals', 'cli']


@pytest.fixture(scope='module')
def said():
    without = [*TRAIN, *ARCHIVE, 'sklearn', 'skimage', 'kornia']
    command = [sys.executable, '-c', TRY_ALL, json.dumps(without)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize('module', LIGHT)
def test_works_without(said, module):
    assert said[f'medtut.{module}'] == ''


def test_the_rest_says_what_to_install(said):
    "In one sentence, which names the module that was asked for or one that it stands on"
    refused = {module: message for module, message in said.items() if message}
    trains = {'medtut.chest', 'medtut.segmentation', 'medtut.predict', 'medtut.datasets'}
    assert trains <= set(refused)
    for module, message in refused.items():
        assert message.startswith('medtut.'), module
        assert re.search(r"pip install 'medtut\[(train|archive)\]'$", message), module
        assert '\n' not in message


def command(*args):
    code = f'''
import json, sys
for package in {TRAIN!r}: sys.modules[package] = None
from medtut.cli import main
sys.argv = ['medtut', *{list(args)!r}]
main()'''
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


def test_commands_that_read_work_without(tmp_path):
    for name in ('scan', 'series'):
        assert command(name, str(tmp_path), '-q').returncode in (0, 1)
    for name in ('scan', 'series', 'png', 'convert', 'deidentify', 'predict'):
        assert command(name, '--help').returncode == 0


def test_commands_that_train_say_what_to_install(tmp_path):
    done = command('get', 'siim_small', '--source', 'sample')
    assert done.returncode
    assert "pip install 'medtut[train]'" in done.stderr
    assert 'Traceback' not in done.stderr
