"""Install packages into this Python's environment, by uv, which takes a fraction of pip's time

    python tools/install.py -c constraints.txt -e .[dev]

The words are those of `pip install`. uv reads none of pip's settings: those that say where packages
come from are handed over. Where uv can't install them, pip does.
"""
import ast
import os
import subprocess
import sys

PIP = [sys.executable, '-m', 'pip']
UV = [sys.executable, '-m', 'uv', 'pip']
# pip's settings that say where packages come from, and uv's variables for the same
VARIABLES = {
    'index-url': 'UV_DEFAULT_INDEX', 'extra-index-url': 'UV_INDEX', 'find-links': 'UV_FIND_LINKS',
    'cert': 'SSL_CERT_FILE', 'proxy': 'ALL_PROXY', 'trusted-host': 'UV_INSECURE_HOST',
    'timeout': 'UV_HTTP_TIMEOUT', 'default-timeout': 'UV_HTTP_TIMEOUT'}
BETWEEN = {'UV_FIND_LINKS': ','} # a blank between the items of the others, as pip has it
SECTIONS = 'global', 'install', ':env:' # each overrules those before it


def pip_settings(listed):
    "Names and values of what `pip config list` printed, of the section that counts"
    found = []
    for line in listed.splitlines():
        key, equals, value = line.partition('=')
        section, _, name = key.rpartition('.')
        if equals and section in SECTIONS:
            found.append((SECTIONS.index(section), name, ast.literal_eval(value)))
    return {name: value for _, name, value in sorted(found)}


def uv_variables(settings):
    "The same for uv. pip takes the newest version that any of its sources has: so does uv here"
    found = {'UV_INDEX_STRATEGY': 'unsafe-best-match'}
    for name, variable in VARIABLES.items():
        if name not in settings: continue
        items = str(settings[name]).split()
        found[variable] = BETWEEN.get(variable, ' ').join(items)
    return found


def install(words):
    "Exit status of the installation"
    listed = subprocess.run([*PIP, 'config', 'list'], check=True, stdout=subprocess.PIPE, text=True)
    variables = uv_variables(pip_settings(listed.stdout))
    by_uv = subprocess.run([*UV, 'install', '--python', sys.executable, *words],
                           env=variables | os.environ)
    if by_uv.returncode == 0: return 0
    print(f'uv ended with status {by_uv.returncode}, as said above. Now pip tries.', flush=True)
    return subprocess.run([*PIP, 'install', *words]).returncode


if __name__ == '__main__': sys.exit(install(sys.argv[1:]))
