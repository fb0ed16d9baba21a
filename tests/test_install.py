"`tools/install.py`: uv gets pip's settings, and pip has a go where uv fails"
import subprocess
import sys
from types import SimpleNamespace

import install
import pytest

LISTED = """\
:env:.find-links='/wheels /more'
:env:.timeout='60'
global.index-url='https://mirror.example/simple'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.find-links='/overruled'
install.timeout='30'
global.timeout='10'
freeze.timeout='20'
"""


def test_settings_overrule_each_other():
    "In pip's order: a variable before the section of the command, and that before `global`"
    settings = install.pip_settings(LISTED)
    assert settings['find-links'] == '/wheels /more'
    assert settings['timeout'] == '60'
    shorter = LISTED.replace(":env:.timeout='60'", '')
    assert install.pip_settings(shorter)['timeout'] == '30'


def test_uv_is_told_the_same():
    variables = install.uv_variables(install.pip_settings(LISTED))
    assert variables == {
        'UV_INDEX_STRATEGY': 'unsafe-best-match', 'UV_DEFAULT_INDEX': 'https://mirror.example/simple',
        'UV_INDEX': 'https://a.example/simple https://b.example/simple',
        'UV_FIND_LINKS': '/wheels,/more', 'UV_HTTP_TIMEOUT': '60'}


def test_pip_lists_its_settings_so(monkeypatch):
    "The text that is read here is what this pip prints"
    monkeypatch.setenv('PIP_FIND_LINKS', '/wheels /more')
    listed = subprocess.run([*install.PIP, 'config', 'list'], capture_output=True, text=True)
    assert install.pip_settings(listed.stdout)['find-links'] == '/wheels /more'


@pytest.fixture
def called(monkeypatch):
    "Commands that were started, in turn; uv's ends with the status that `called.uv` says"
    calls = SimpleNamespace(commands=[], environments=[], uv=0)
    def run(command, env=None, **_):
        calls.commands.append(command)
        calls.environments.append(env)
        return SimpleNamespace(returncode=calls.uv if 'uv' in command else 0, stdout=LISTED)
    monkeypatch.setattr(install.subprocess, 'run', run)
    return calls


def test_uv_installs(called, monkeypatch):
    monkeypatch.setenv('UV_HTTP_TIMEOUT', '5')
    assert install.install(['-e', '.']) == 0
    assert called.commands[-1] == [*install.UV, 'install', '--python', sys.executable, '-e', '.']
    here = called.environments[-1]
    assert here['UV_FIND_LINKS'] == '/wheels,/more'
    assert here['UV_HTTP_TIMEOUT'] == '5', "a variable of the user's own counts"


def test_pip_has_a_go_where_uv_fails(called, capsys):
    called.uv = 2
    assert install.install(['-e', '.']) == 0
    assert called.commands[-1] == [*install.PIP, 'install', '-e', '.']
    assert 'status 2' in capsys.readouterr().out


def test_what_cant_be_installed_says_so(tmp_path):
    "Neither finds it: the words of both, and a status that stops make"
    missing = str(tmp_path/'missing-1.0-py3-none-any.whl')
    done = subprocess.run([sys.executable, install.__file__, missing], capture_output=True, text=True)
    assert done.returncode != 0
    assert 'uv ended with status' in done.stdout and 'missing-1.0' in done.stderr
