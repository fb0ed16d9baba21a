"""Run the benchmarks and write nbs/benchmarks.json, from which `tools/pages.py` makes the tables:
`python tools/bench.py`

Names of benchmarks run those alone, and write nothing:
`python tools/bench.py benchmarks/scan.py`."""
import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from lessons import config, nbs
from machine import memory_gib, n_cores

folder = config.config_path/'benchmarks'
result = nbs/'benchmarks.json'
KINDS = 'speed', 'memory' # what a row may hold a ratio of
# they compare with no other library, or with one that is not in the environment, or have a page of
# their own: no row
WITHOUT_A_ROW = {'hippocampus', 'memory', 'minutes', 'nnunet', 'pacs'}

def benchmarks():
    return [p for p in sorted(folder.glob('[!_]*.py')) if p.stem not in WITHOUT_A_ROW]

def processor():
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.machine()

def machine():
    "What kind of machine this is, in general words"
    words = f'{n_cores()} cores of {processor()}'
    gib = memory_gib()
    if gib is not None: words += f', {gib:.0f} GiB of memory'
    return f'{words}, {platform.system()}'

def run(path, quick=False):
    "The rows that the benchmark at `path` hands over; what it prints goes to the terminal"
    with tempfile.TemporaryDirectory() as temporary:
        rows = Path(temporary)/'rows'
        command = [sys.executable, path, '--rows', rows]
        if quick: command.append('--quick')
        done = subprocess.run(command)
        if done.returncode:
            sys.exit(f'{path.name} failed: no table is written')
        lines = rows.read_text(encoding='utf-8').splitlines()
        return [json.loads(line) | dict(benchmark=path.stem) for line in lines]

def is_command(row): return 'command' in row

def name_of(row):
    return row['label'] if is_command(row) else row['medtut']

# --- the page

def is_missed(row, kind):
    "Whether there is a floor, and the ratio is below it or missing"
    floor, ratio = row[f'least_{kind}'], row[kind]
    return bool(floor) and (ratio is None or ratio < floor)

def missed(row):
    return [kind for kind in KINDS if is_missed(row, kind)]

def ratio(row, kind):
    "A cell of the table: the ratio, and its floor if it has one"
    value, floor = row[kind], row[f'least_{kind}']
    if value is None: text = ''
    else: text = f'{value:.0f}' if value >= 100 else f'{value:.3g}'
    if not floor: return text
    if is_missed(row, kind):
        return f'**{text}**, below the floor of {floor:.3g}'
    return f'{text} (floor {floor:.3g})'

def table_row(row):
    against = f'{row["medtut"]}, against {row["peer"]}'
    return f'| {row["what"]} | {against} | {ratio(row, "speed")} | {ratio(row, "memory")} |'

def verdict(rows):
    below = sum(bool(missed(row)) for row in rows)
    if not below: return 'No row is below its floor.'
    return f'{below} of {len(rows)} rows {"is" if below == 1 else "are"} below a floor.'

QUICK = ('> [!WARNING]\n> These figures come from a quick run on small inputs, made to show the '
         'page. They mean nothing: `make bench` measures.\n')

def table(found):
    "The page's table, and what it was measured with, in Markdown"
    rows = found['rows']
    versions = ', '.join(f'{name} {number}' for name, number in found['versions'].items())
    lines = ['| Measured | medtut, against | Speed | Memory |', '|-|-|-|-|']
    lines += [table_row(row) for row in rows]
    lines += ['', verdict(rows), '']
    lines += [f'Measured on {found["date"]} with {found["machine"]}. Versions: {versions}.']
    if found['quick']:
        lines.insert(0, QUICK)
    return '\n'.join(lines)

# --- its tables of commands

def results(row):
    "A cell of the table of commands: what came of it"
    if row['possible'] is None: text = f'{row["results"]:,}'
    else: text = f'{row["results"]:,} of {row["possible"]:,}'
    if row['names'] is None: return text
    in_content, in_paths = row['names']
    return f'{text}; name left in {in_content:,} files and {in_paths:,} paths'

def command_row(row):
    "A row of the table of commands"
    label = row['label']
    if label.startswith('medtut '): label = f'`{label}`' # else its hyphens become dashes
    if row['jobs']:
        label += f', {row["jobs"]} process'
    if row['jobs'] and row['jobs'] > 1:
        label += 'es'
    if row['seconds'] is None:
        return f'| {row["folder"]} | {label} | not installed | | | | | |'
    crashed = row['status'] < 0 or row['status'] > 128  # by a signal, told by the shell or not
    status = f'{row["status"]} (crashed)' if crashed else row['status']
    lost = '' if row['lost'] is None else f'{row["lost"]:,}'
    figures = f'{row["cpu"]:.1f} | {row["seconds"]:.1f} | {row["memory"]/1e6:.0f}'
    return f'| {row["folder"]} | {label} | {figures} | {results(row)} | {lost} | {status} |'

COMMAND_HEADER = [
    '| Folder | Command | CPU, s | Time, s | Memory, MB | Results | Files lost | Exit |',
    '|-|-|-|-|-|-|-|-|']

def command_tables(found):
    "For each command a table beside other tools', and what they were measured with, in Markdown"
    rows_of = {}
    for row in found['rows']:
        rows_of.setdefault(row['command'], []).append(row)
    lines = []
    for command, rows in rows_of.items():
        lines += [f'### {command}', '', *COMMAND_HEADER, *map(command_row, rows), '']
    tools = sorted({row['tool'] for row in found['rows'] if row['seconds'] is not None})
    lines.append(f'Measured on {found["date"]} with {found["machine"]}. Versions: '
                 f'{", ".join(tools)}.')
    if found['busy']:
        lines.append('Other work ran on the machine at the same time, so times are longer than '
                     'they need be, and a second process gains little; CPU seconds are surer.')
    if found['quick']:
        lines.insert(0, QUICK)
    return '\n'.join(lines)

# --- for the page

def site_result(): return json.loads(result.read_text(encoding='utf-8'))

def benchmark_table():
    "The table of what was measured last"
    return table(site_result())

def benchmarked_commands():
    "The tables of commands as they were measured last"
    return command_tables(site_result()['commands'])

# --- the command line

def versions_of(rows):
    "Of medtut and of what it is compared with"
    packages = {name for row in rows for name in row['packages']} | {'numpy', 'torch'}
    return {name: version(name) for name in ['medtut', *sorted(packages)]}

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='benchmark')
    parser.add_argument('--quick', action='store_true',
                        help='small inputs, once: shows that all run')
    parser.add_argument('--busy', action='store_true',
                        help='other work runs beside it: the page says so')
    args = parser.parse_args()
    chosen = args.paths or benchmarks()
    rows = []
    for i, path in enumerate(chosen, 1):
        print(f'\n{path.stem} ({i} of {len(chosen)}) ...', flush=True)
        rows += run(path, args.quick)
    compared = [row for row in rows if not is_command(row)]
    settings = dict(date=str(date.today()), machine=machine(), quick=args.quick, busy=args.busy)
    commands = settings | dict(rows=[row for row in rows if is_command(row)])
    found = settings | dict(versions=versions_of(compared), rows=compared, commands=commands)
    print(f'\n{table(found)}\n\n{command_tables(commands)}')
    if args.paths: return
    result.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    print(f'\nWritten to {result.relative_to(config.config_path)}')

if __name__ == '__main__': main()
