"""What the page "Your own DICOM file" says of a file, in the reader's browser: as JSON

`header` needs pydicom alone and is there first; the others need medtut and what it stands on."""
import json
import warnings

import pydicom


def _text(value, longest=80):
    text = ' '.join(str(value).split())
    return text if len(text) <= longest else f'{text[:longest]} ...'

def _elements(ds, depth=0):
    "Tag, VR, name and value of each element, those of sequences after their own"
    for e in ds:
        value = f'{len(e.value)} items' if e.VR == 'SQ' else _text(e.value)
        if e.tag == 0x7fe00010: value = f'{len(e.value):,} bytes of pixels'
        yield ['\u00a0'*3*depth + str(e.tag), e.VR, e.name, value]
        if e.VR == 'SQ':
            for item in e.value: yield from _elements(item, depth + 1)

def header(path):
    "Rows of the header, or why there is none"
    try:
        ds = pydicom.dcmread(path)
        rows = [*_elements(ds.file_meta), *_elements(ds)]
    except Exception as e: # a damaged file makes pydicom fail in any way there is
        return json.dumps(dict(error=f'{path}: can not be read as DICOM ({e})'))
    return json.dumps(dict(rows=rows))

def _picture(ds):
    from base64 import b64encode
    from io import BytesIO

    from PIL import Image

    from medtut.display import to_display
    frames = int(ds.get('NumberOfFrames', 1) or 1)
    shown = to_display(ds, frame=frames//2 if frames > 1 else None)
    file = BytesIO()
    Image.fromarray(shown).save(file, format='png')
    return dict(png=b64encode(file.getvalue()).decode(), frames=frames)

def picture(path):
    "The picture as medtut shows it, or why there is none; what was assumed"
    from medtut.dicom import read_dicom
    from medtut.errors import DicomError
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try: said = _picture(read_dicom(path))
        except DicomError as e: said = dict(error=str(e))
    return json.dumps(said | dict(notes=sorted({str(w.message) for w in caught})))

def identifying(path):
    "What identifies the patient by the standard's profile, and why to look at the picture too"
    from medtut.burned_in import burned_in_risk
    from medtut.dicom import read_dicom
    from medtut.errors import DicomError
    from medtut.identity import identifying_elements
    try:
        ds = read_dicom(path)
        table = identifying_elements(ds)
        risks = list(burned_in_risk(ds))
    except DicomError as e: return json.dumps(dict(error=str(e)))
    is_private = table.action == 'remove, private'
    named = table[~is_private]
    rows = [[row.keyword or row.name, _text(row.value), row.action] for row in named.itertuples()]
    return json.dumps(dict(rows=rows, private=int(is_private.sum()), risks=risks))
