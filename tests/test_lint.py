"What `make lint` runs, beside the other tests: by itself it would leave all but one core idle"
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ['ruff check .', 'mypy', 'python tools/style.py --check']


@pytest.mark.parametrize('command', COMMANDS)
def test_finds_no_fault(root, command):
    program, *words = command.split()
    here = Path(sys.executable).parent/program
    done = subprocess.run([here, *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_these_are_the_commands(root):
    recipe = (root/'Makefile').read_text(encoding='utf-8').partition('\nlint:')[2].partition('\n\n')[0]
    assert re.findall(r'^\t@\$\(bin\)/(.+)$', recipe, re.M) == COMMANDS
