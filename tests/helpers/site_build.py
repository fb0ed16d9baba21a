"The site, built by Sphinx"
import subprocess
import sys


def build_site(*args):
    "Build with the given arguments of Sphinx; a warning is an error"
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '--quiet', *args]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
