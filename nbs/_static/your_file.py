"""What the page "Your own DICOM file" says of a file, in the reader's browser: as JSON

`header` needs pydicom alone and is there first; the others need medtut and what it stands on."""
import json
import warnings
from pathlib import Path

import pydicom

# How other files begin, and what to say of them
OTHERS = {
    b'PK': 'a ZIP archive: unpack it, and drop one of the files in it',
    b'\x1f\x8b': 'a file packed by gzip, as NIfTI often is',
    b'%PDF': 'a PDF', b'\x89PNG': 'a PNG picture', b'\xff\xd8\xff': 'a JPEG picture',
    b'GIF8': 'a GIF picture', b'<': 'a web page or XML: was a download refused?'}


def _text(value, longest=80):
    text = ' '.join(str(value).split())
    return text if len(text) <= longest else f'{text[:longest]} ...'

def _begins_as_dicom(head):
    "By the rule of `read_dicom`, which needs NumPy: DICM, or an element of group 2 or 8"
    if head[128:132] == b'DICM': return True
    if len(head) < 8: return False
    has_vr = head[4:6].isalpha() and head[4:6].isupper()
    for order in 'little', 'big':
        group, element = (int.from_bytes(head[i:i + 2], order) for i in (0, 2))
        length = int.from_bytes(head[4:8], order)
        if group in (2, 8) and element < 0x100 and (has_vr or length <= 256): return True
    return False

def _refusal(path):
    "Why a file is not read as DICOM; '' if it is"
    raw = Path(path).read_bytes()
    if not raw: return f'{path} is empty: copy or download it again.'
    if _begins_as_dicom(raw[:132]): return ''
    start = raw[:132].lstrip()
    kinds = [kind for beginning, kind in OTHERS.items() if start.startswith(beginning)]
    seen = f'it looks like {kinds[0]}' if kinds else 'it holds something else'
    return f'{path} can not be read as DICOM: {seen}.'

def _rows_of(element, depth):
    "An element's tag, VR, name and value, those of a sequence's items after its own"
    value = _text(element.value)
    if element.VR == 'SQ': value = f'{len(element.value)} items'
    if element.tag == 0x7fe00010: value = f'{len(element.value):,} bytes of pixels'
    yield ['\u00a0'*3*depth + str(element.tag), element.VR, element.name, value]
    if element.VR == 'SQ':
        for item in element.value: yield from _elements(item, depth + 1)

def _elements(ds, depth=0):
    "Rows of a data set; an element that is damaged costs no other"
    for tag in sorted(ds.keys()):
        try: yield from _rows_of(ds[tag], depth)
        except Exception as e: # pydicom fails on a damaged value in any way there is
            yield [str(tag), '', '', f'can not be read: {_text(e)}']

def header(path):
    "Rows of the header, or why there is none"
    refused = _refusal(path)
    if refused: return json.dumps(dict(error=refused))
    try:
        ds = pydicom.dcmread(path, force=True)
        rows = [*_elements(ds.file_meta), *_elements(ds)]
    except Exception as e: # and on a damaged file
        return json.dumps(dict(error=f'{path} can not be read as DICOM: {_text(e, 200)}'))
    return json.dumps(dict(rows=rows))

def _picture(ds):
    from base64 import b64encode
    from io import BytesIO

    from PIL import Image

    from medtut.display import to_display
    from medtut.folders import number_of_frames
    frames = number_of_frames(ds)
    shown = to_display(ds, frame=frames//2 if frames > 1 else None)
    file = BytesIO()
    Image.fromarray(shown).save(file, format='png')
    return dict(png=b64encode(file.getvalue()).decode(), frames=frames)

def _problem(path, what, e):
    "What to say of an exception: a `DicomError` names the file by itself"
    from medtut.errors import DicomError
    if isinstance(e, DicomError): return str(e)
    return f'{path}: {what} failed ({type(e).__name__}: {_text(e, 200)})'

def picture(path):
    "The picture as medtut shows it, or why there is none; what was assumed"
    from medtut.dicom import read_dicom
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try: said = _picture(read_dicom(path))
        except Exception as e: said = dict(error=_problem(path, 'its picture', e))
    return json.dumps(said | dict(notes=sorted({str(w.message) for w in caught})))

def identifying(path):
    "What identifies the patient by the standard's profile, and why to look at the picture too"
    from medtut.burned_in import burned_in_risk
    from medtut.dicom import read_dicom
    from medtut.identity import identifying_elements
    try:
        ds = read_dicom(path)
        table = identifying_elements(ds)
        risks = list(burned_in_risk(ds))
    except Exception as e:
        return json.dumps(dict(error=_problem(path, 'looking for what identifies the patient', e)))
    is_private = table.action == 'remove, private'
    named = table[~is_private]
    rows = [[row.keyword or row.name, _text(row.value), row.action] for row in named.itertuples()]
    return json.dumps(dict(rows=rows, private=int(is_private.sum()), risks=risks))
