"""How a benchmark takes its options, and hands over what it measured: printed, and kept for the page
that tools/bench.py makes"""
import json
from pathlib import Path


def options(parser, **quick):
    "Parse the command line; with `--quick`, the values of `quick` are the defaults"
    parser.add_argument('--quick', action='store_true',
                        help='a small input once, in seconds: shows that the benchmark runs, '
                             'the figures mean nothing')
    parser.add_argument('--rows', type=Path,
                        help='append the rows to this file too, one JSON object a line')
    args, _ = parser.parse_known_args()
    if args.quick: parser.set_defaults(**quick)
    return parser.parse_args()

def append(row, path):
    "Add a row to the file at `path`, one JSON object a line; nothing without a path"
    if not path: return
    with path.open('a', encoding='utf-8') as f:
        f.write(json.dumps(row) + '\n')

def floor_words(ratio, floor):
    "What a row says of a floor; nothing if there is none, or no ratio to compare"
    if not floor or ratio is None: return []
    return [f'floor {floor:g}{"" if ratio >= floor else ": NOT HELD"}']

def ratio_words(speed, memory, least_speed, least_memory):
    words = []
    if speed:
        words.append(f'{speed:.3g} times as fast')
    if memory:
        words.append(f'{memory:.3g} times less memory')
    return words + floor_words(speed, least_speed) + floor_words(memory, least_memory)

def hand_over(
    args, what, medtut, peer, speed=None, memory=None, least_speed=None, least_memory=None,
    packages=(),
):
    """Print a row of the table, and append it to the file `args.rows`.

    `speed` is the peer's time over medtut's, `memory` the peer's peak over medtut's: above 1 is in
    favour of medtut, and `least_speed` and `least_memory` are floors under them, set before
    anything was measured. `packages`: those of the peer, for their versions"""
    row = dict(what=what, medtut=medtut, peer=peer, speed=speed, memory=memory,
               least_speed=least_speed, least_memory=least_memory, packages=list(packages))
    words = ratio_words(speed, memory, least_speed, least_memory)
    print(f'{what}: {medtut} against {peer}: {", ".join(words)}', flush=True)
    append(row, args.rows)

def hand_over_command(
    args, folder, command, label, tool, jobs=None, seconds=None, cpu=None, memory=None,
    status=None, results=None, possible=None, lost=None, names=None,
):
    """Print a row of the table of commands, and append it to the file `args.rows`.

    Without `seconds` the tool is not installed. `memory` is in bytes; `results` are those that are
    right, of `possible` ones, and `lost` are the files without one (`None`: nobody knows); `names`:
    in how many files the patient's name is left, in their content and in their paths"""
    row = {name: value for name, value in locals().items() if name != 'args'}
    if seconds is None: print(f'{folder}: {label}: {tool} is not installed', flush=True)
    else:
        print(f'{folder}: {label}, {jobs} processes: {seconds:.1f} s, {cpu:.1f} s of CPU, '
              f'{memory/1e6:.0f} MB, {results} of {possible}, names left {names}, '
              f'exit status {status}', flush=True)
    append(row, args.rows)
