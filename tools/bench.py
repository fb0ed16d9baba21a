"""Run the benchmarks and write nbs/benchmarks.json, from which the site's page is made: `python tools/bench.py`

Names of benchmarks run those alone, and write nothing: `python tools/bench.py benchmarks/scan.py`."""
import argparse, json, os, platform, subprocess, sys, tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from lessons import config, nbs

folder = config.config_path/'benchmarks'
result = nbs/'benchmarks.json'

def benchmarks(): return sorted(folder.glob('[!_]*.py'))

def machine():
    "What kind of machine this is, in general words"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    info = Path('/proc/cpuinfo')
    names = [l.partition(':')[2].strip() for l in info.read_text().splitlines() if l.startswith('model name')] if info.exists() else []
    memory = f', {os.sysconf("SC_PHYS_PAGES")*os.sysconf("SC_PAGE_SIZE")/2**30:.0f} GiB of memory' if hasattr(os, 'sysconf') else ''
    return f'{cores} cores of {names[0] if names else platform.machine()}{memory}, {platform.system()}'

def run(path, quick=False):
    "The rows that the benchmark at `path` hands over; what it prints goes to the terminal"
    with tempfile.TemporaryDirectory() as temporary:
        rows = Path(temporary)/'rows'
        done = subprocess.run([sys.executable, path, '--rows', rows, *['--quick']*quick])
        if done.returncode: sys.exit(f'{path.name} failed: no table is written')
        return [json.loads(line) | dict(benchmark=path.stem) for line in rows.read_text(encoding='utf-8').splitlines()]

def is_command(row): return 'command' in row

def name_of(row): return row['label'] if is_command(row) else row['medtut']

def missed(row): return [k for k in ('speed', 'memory') if row[f'least_{k}'] and not (row[k] or 0) >= row[f'least_{k}']]

def ratio(row, kind):
    "A cell of the table: the ratio, and its floor if it has one"
    found,least = row[kind], row[f'least_{kind}']
    text = '' if found is None else f'{found:.0f}' if found >= 100 else f'{found:.3g}'
    if not least: return text
    return f'**{text}**, below the floor of {least:.2g}' if kind in missed(row) else f'{text} (floor {least:.2g})'

QUICK = ('> [!WARNING]\n> These figures come from a quick run on small inputs, made to show the '
         'page. They mean nothing: `make bench` measures.\n')

def table(found):
    "The page's table, and what it was measured with, in Markdown"
    lines = ['| Measured | medtut, against | Speed | Memory |', '|-|-|-|-|']
    lines += [f'| {r["what"]} | {r["medtut"]}, against {r["peer"]} | {ratio(r, "speed")} | {ratio(r, "memory")} |' for r in found['rows']]
    low = sum(bool(missed(r)) for r in found['rows'])
    lines += ['', f'{low} of {len(found["rows"])} rows {"is" if low == 1 else "are"} below a floor.' if low else 'No row is below its floor.',
              '', f'Measured on {found["date"]} with {found["machine"]}. Versions: ' + ', '.join(f'{k} {v}' for k, v in found['versions'].items()) + '.']
    if found['quick']: lines.insert(0, QUICK)
    return '\n'.join(lines)

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
    if row['jobs']: label += f', {row["jobs"]} process' + 'es'*(row['jobs'] > 1)
    if row['seconds'] is None: return f'| {row["folder"]} | {label} | not installed | | | | | |'
    crashed = row['status'] < 0 or row['status'] > 128  # by a signal, told by the shell or not
    status = f'{row["status"]} (crashed)' if crashed else row['status']
    lost = '' if row['lost'] is None else f'{row["lost"]:,}'
    return (f'| {row["folder"]} | {label} | {row["cpu"]:.1f} | {row["seconds"]:.1f} | '
            f'{row["memory"]/1e6:.0f} | {results(row)} | {lost} | {status} |')

def command_tables(found):
    "For each command a table beside other tools', and what they were measured with, in Markdown"
    lines = []
    for command in dict.fromkeys(r['command'] for r in found['rows']):
        lines += [f'### {command}', '', '| Folder | Command | CPU, s | Time, s | Memory, MB | '
                  'Results | Files lost | Exit status |', '|-|-|-|-|-|-|-|-|']
        lines += [*(command_row(r) for r in found['rows'] if r['command'] == command), '']
    tools = sorted({r['tool'] for r in found['rows'] if r['seconds'] is not None})
    lines.append(f'Measured on {found["date"]} with {found["machine"]}. Versions: '
                 f'{", ".join(tools)}.')
    if found['busy']:
        lines.append('Other work ran on the machine at the same time, so times are longer than '
                     'they need be, and a second process gains little; CPU seconds are surer.')
    if found['quick']: lines.insert(0, QUICK)
    return '\n'.join(lines)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('paths', nargs='*', type=lambda p: Path(p).resolve(), metavar='benchmark')
    parser.add_argument('--quick', action='store_true', help='small inputs, once: shows that all run')
    parser.add_argument('--busy', action='store_true',
                        help='other work runs beside it: the page says so')
    args = parser.parse_args()
    rows = []
    for i,path in enumerate(chosen := args.paths or benchmarks(), 1):
        print(f'\n{path.stem} ({i} of {len(chosen)}) ...', flush=True)
        rows += run(path, args.quick)
    compared = [r for r in rows if not is_command(r)]
    packages = {p for r in compared for p in r['packages']} | {'numpy', 'torch'}
    versions = {p: version(p) for p in ['medtut', *sorted(packages)]}
    how = dict(date=str(date.today()), machine=machine(), quick=args.quick, busy=args.busy)
    commands = how | dict(rows=[r for r in rows if is_command(r)])
    found = how | dict(versions=versions, rows=compared, commands=commands)
    if not args.paths: result.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    print(f'\n{table(found)}\n\n{command_tables(commands)}' + f'\n\nWritten to {result.relative_to(config.config_path)}'*(not args.paths))
