"Damaged files for any reader, and a process of its own that reads them, so that neither a crash nor a swollen memory is lost on the tests"
import io, json, os, random, subprocess, sys, zipfile
from importlib import import_module
from pathlib import Path

FUZZ = int(os.environ.get('MEDTUT_FUZZ', 1))  # how many times the work of `make test`; `make fuzz` sets it
SEED = int(os.environ.get('MEDTUT_FUZZ_SEED', 0))
GIB = 4  # more than this a reader of small files must not take

def cut(raw, rng): return raw[:rng.randrange(len(raw))]

def flipped(raw, rng, stop=None):
    "A few bytes changed, before `stop` if it is given"
    raw = bytearray(raw)
    for _ in range(rng.randrange(1, 9)): raw[rng.randrange(min(stop or len(raw), len(raw)))] ^= rng.randrange(1, 256)
    return bytes(raw)

def planted(raw, rng, stop=None):
    "Numbers that break arithmetic: largest, smallest, nan, infinity"
    raw, at = bytearray(raw), rng.randrange(min(stop or len(raw), len(raw)) - 8)
    raw[at:at + 4] = rng.choice([b'\xff'*4, bytes(4), b'\xff\x7f\xff\x7f', b'\0\x80\0\x80', b'\0\0\x80\x7f', b'\0\0\xc0\x7f', b'\x7f\xff\xff\xff', b'\x01\0\0\0'])
    return bytes(raw)

def retyped(raw, rng):
    "Text with a digit, a word or a mark exchanged"
    old = rng.choice([b'0', b'1', b',', b'"', b'\n', b'.', b'{', b'[', b':', b'a', b'_'])
    new = rng.choice([b'', b'-1', b'9'*30, b'1e400', b'nan', b'"', b',,', b'\n\n', b'\0', b'\xff\xfe', b'[[[', b'null', b'../'])
    places = [i for i in range(len(raw)) if raw.startswith(old, i)] or [0]
    at = rng.choice(places)
    return raw[:at] + new + raw[at + 1:]

def inside_zip(raw, rng):
    "One member of an archive damaged, all checksums right: what the XML reader of a spreadsheet gets to see"
    old, buffer = zipfile.ZipFile(io.BytesIO(raw)), io.BytesIO()
    hit = rng.choice(old.namelist())
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == hit: content = rng.choice([cut, flipped, swapped])(content, rng)
            new.writestr(name, content)
    return buffer.getvalue()

def swapped(xml, rng):
    return xml.replace(*rng.choice([(b'<v>', b'<v>9e999'), (b'<v>', b'<v>-1'), (b't="s"', b't="n"'), (b'r="A', b'r="ZZZZZZ'), (b'r="A1"', b'r="XFD1048576"'),
                                    (b'<row r="', b'<row r="9999999999'), (b'count="', b'count="999999999'), (b'<sheetData>', b''), (b'</row>', b'')]))

def files(folder, sources, ways, n):
    "`n` damaged copies of each source, each in a way drawn by its own seed"
    for path in sources:
        raw = path.read_bytes()
        for i in range(n):
            rng = random.Random(f'{path.name} {i} {SEED}')
            place = folder/f'{path.stem}_{i}'
            place.mkdir(parents=True)
            (place/path.name).write_bytes(rng.choice(ways)(raw, rng))  # the name is kept: readers look at its ending

def read_all(reader, documented, folder):
    """Call `reader` ('tests module:function') with every damaged file in a process that has `GIB` more than it starts with.

    What comes back: counts of files read and refused, and what else happened. A process that died says so as an error."""
    done = subprocess.run([sys.executable, __file__, reader, ','.join(documented), str(folder)], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path])))
    lines = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith('result ')]
    assert done.returncode == 0, f'the process died with {done.returncode} at {lines[-1] if lines else "the start"}: {done.stderr[-2000:]}'
    said = [line['said'] for line in lines if 'said' in line]
    odd = [line for line in lines if line.get('said', '') not in ('', 'read', 'refused')]
    return said.count('read'), said.count('refused'), odd

if __name__ == '__main__':
    import traceback, warnings
    reader, documented, folder = sys.argv[1:]
    module, _, name = reader.partition(':')
    read = getattr(import_module(module), name)
    documented = tuple(getattr(import_module(m), n) for m, n in (d.split(':') for d in documented.split(',')))
    if Path('/proc/self/statm').exists():
        import resource
        used = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + GIB*2**30,)*2)
    warnings.simplefilter('ignore')
    for path in sorted(p for p in Path(folder).rglob('*') if p.is_file()):
        print('result ' + json.dumps(dict(file=str(path))), flush=True)
        try: said = 'read' if read(path) is None else 'refused'
        except documented as e: said = 'refused' if str(e) else 'an error without a word'
        except BaseException: said = traceback.format_exc()[-1500:]
        print('result ' + json.dumps(dict(file=str(path), said=said)), flush=True)
