"""Damaged files for any reader, and a process of its own that reads them.

Neither a crash nor a swollen memory is lost on the tests."""
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

FUZZ = int(os.environ.get('MEDTUT_FUZZ', 1))  # times the work of `make test`; `make fuzz` sets it
SEED = int(os.environ.get('MEDTUT_FUZZ_SEED', 0))
GIB = 4  # more than this a reader of small files must not take

# numbers that break arithmetic: largest, smallest, infinity, nan
BREAKING_NUMBERS = [b'\xff'*4, bytes(4), b'\xff\x7f\xff\x7f', b'\0\x80\0\x80', b'\0\0\x80\x7f',
                    b'\0\0\xc0\x7f', b'\x7f\xff\xff\xff', b'\x01\0\0\0']
MARKS = [b'0', b'1', b',', b'"', b'\n', b'.', b'{', b'[', b':', b'a', b'_']
BREAKING_WORDS = [b'', b'-1', b'9'*30, b'1e400', b'nan', b'"', b',,', b'\n\n', b'\0', b'\xff\xfe',
                  b'[[[', b'null', b'../']
# pieces of a spreadsheet's XML, and what breaks them
BREAKING_XML = [
    (b'<v>', b'<v>9e999'),
    (b'<v>', b'<v>-1'),
    (b't="s"', b't="n"'),
    (b'r="A', b'r="ZZZZZZ'),
    (b'r="A1"', b'r="XFD1048576"'),
    (b'<row r="', b'<row r="9999999999'),
    (b'count="', b'count="999999999'),
    (b'<sheetData>', b''),
    (b'</row>', b'')]

def cut(raw, rng):
    return raw[:rng.randrange(len(raw))]

def flipped(raw, rng, stop=None, start=0, count=None):
    "A few bytes changed, or `count` of them, from `start` on and before `stop` if it is given"
    raw = bytearray(raw)
    stop = min(stop or len(raw), len(raw))
    for _ in range(count or rng.randrange(1, 9)):
        raw[rng.randrange(start, stop)] ^= rng.randrange(1, 256)
    return bytes(raw)

def planted(raw, rng, stop=None):
    "A number that breaks arithmetic"
    raw = bytearray(raw)
    at = rng.randrange(min(stop or len(raw), len(raw)) - 8)
    raw[at:at + 4] = rng.choice(BREAKING_NUMBERS)
    return bytes(raw)

def retyped(raw, rng):
    "Text with a digit, a word or a mark exchanged"
    old, new = rng.choice(MARKS), rng.choice(BREAKING_WORDS)
    places = [i for i in range(len(raw)) if raw.startswith(old, i)] or [0]
    at = rng.choice(places)
    return raw[:at] + new + raw[at + 1:]

def inside_zip(raw, rng):
    """One member of an archive damaged, all checksums right.

    This is what the XML reader of a spreadsheet gets to see."""
    old, buffer = zipfile.ZipFile(io.BytesIO(raw)), io.BytesIO()
    damaged = rng.choice(old.namelist())
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == damaged:
                content = rng.choice([cut, flipped, swapped])(content, rng)
            new.writestr(name, content)
    return buffer.getvalue()

def swapped(xml, rng):
    return xml.replace(*rng.choice(BREAKING_XML))

def files(folder, sources, ways, n):
    "`n` damaged copies of each source, each in a way drawn by its own seed"
    for path in sources:
        raw = path.read_bytes()
        for i in range(n):
            rng = random.Random(f'{path.name} {i} {SEED}')
            place = folder/f'{path.stem}_{i}'
            place.mkdir(parents=True)
            # the name is kept: readers look at its ending
            (place/path.name).write_bytes(rng.choice(ways)(raw, rng))

def read_all(reader, documented, folder):
    """Call `reader` ('tests module:function') with every damaged file.

    It runs in a process that has `GIB` more than it starts with.
    What comes back: counts of files read and refused, and what else happened.
    A process that died says so as an error."""
    command = [sys.executable, __file__, reader, ','.join(documented), str(folder)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True,
                          env=os.environ | dict(PYTHONPATH=path))
    results = [line.removeprefix('result ') for line in done.stdout.splitlines()
               if line.startswith('result ')]
    lines = [json.loads(result) for result in results]
    last = lines[-1] if lines else 'the start'
    assert done.returncode == 0, (
        f'the process died with {done.returncode} at {last}: {done.stderr[-2000:]}')
    said = [line['said'] for line in lines if 'said' in line]
    odd = [line for line in lines if line.get('said', '') not in ('', 'read', 'refused')]
    return said.count('read'), said.count('refused'), odd

def named(place):
    "The object that 'module:name' names"
    module, _, name = place.partition(':')
    return getattr(import_module(module), name)

def limit_memory():
    "No more than `GIB` beyond what this process holds, where the platform can"
    statm = Path('/proc/self/statm')
    if not statm.exists(): return
    import resource
    used = int(statm.read_text().split()[0])*resource.getpagesize()
    limit = used + GIB*2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def outcome(read, documented, path):
    "'read', 'refused', or what went wrong"
    import traceback
    try: return 'read' if read(path) is None else 'refused'
    except documented as e: return 'refused' if str(e) else 'an error without a word'
    except BaseException: return traceback.format_exc()[-1500:]

def main(reader, documented, folder):
    import warnings
    read = named(reader)
    documented = tuple(named(error) for error in documented.split(','))
    limit_memory()
    warnings.simplefilter('ignore')
    for path in sorted(p for p in Path(folder).rglob('*') if p.is_file()):
        print('result ' + json.dumps(dict(file=str(path))), flush=True)
        said = outcome(read, documented, path)
        print('result ' + json.dumps(dict(file=str(path), said=said)), flush=True)

if __name__ == '__main__':
    main(*sys.argv[1:])
