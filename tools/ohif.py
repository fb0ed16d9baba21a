"""What the viewer OHIF shows of medtut's segmentations, measured in its picture

    python tools/ohif.py FOLDER              phantoms in four orientations; fails if one is off
    python tools/ohif.py FOLDER --lesson     writes nbs/images/ohif.png, what lesson 8 sends

FOLDER holds OHIF's prebuilt files (see tools/archive.py). Chromium is needed.

Each phantom has three bright squares of different sizes, and a bar whose place tells the slice. The
mask is a hook of another shape, which moves from slice to slice; it lies in the half to which the
rows run, in an axial series the patient's left. From the squares in the picture follows where each
voxel is drawn, flips included, and so where the mask must be; what is coloured is compared with it.
The letters at the left and the upper edge, which OHIF takes from the header, are compared with the
sides from which rows and columns come."""
import argparse
import os
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from archive import handler, name_types
from fastcore.nbio import read_nb
from lessons import config, nbs
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage as ndi

from medtut.pacs import archive, store
from medtut.results import save_seg
from medtut.volumes import load_series

sys.path.insert(0, str(config.config_path/'tests/helpers'))
from chromium import WITH_GL, chromium  # noqa: E402

COLUMNS, ROWS, SLICES = 96, 80, 9
DOWN_MM, RIGHT_MM, STEP_MM = 1.2, .9, 2.5
# directions of rows and columns (LPS), and the letters of the sides from which both come
ORIENTATIONS = dict(
    axial=((1, 0, 0, 0, 1, 0), 'R', 'A'), sagittal=((0, 1, 0, 0, 0, -1), 'A', 'H'),
    coronal=((1, 0, 0, 0, 0, -1), 'R', 'H'), oblique=((.8, .6, 0, -.36, .48, .8), 'R', 'F'))
# first column and row of the squares, and their sides, in voxels; the largest first
SQUARES = [(10, 8, 12), (20, 60, 9), (78, 64, 6)]
BAR = (2, 14)  # columns and rows of the bar that tells the slice

def bar_column(z): return 26 + 2*z

def phantom():
    "Image and mask (x, y, z)"
    image = np.full((COLUMNS, ROWS, SLICES), 100, np.int16)
    mask = np.zeros(image.shape, bool)
    for x, y, side in SQUARES: image[x:x + side, y:y + side] = 1000
    for z in range(SLICES):
        image[bar_column(z):bar_column(z) + BAR[0], 36:36 + BAR[1], z] = 1000
        top = 14 + 2*z
        mask[56:66, top:top + 20, z] = True  # a hook: its arm points to where the rows run
        mask[66:78, top:top + 6, z] = True
    return image, mask

def write_phantom(folder, orientation):
    "The slices as a CT series"
    folder.mkdir()
    image, _ = phantom()
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID, ds.Modality, ds.SeriesNumber = generate_uid(), 'CT', 1
    ds.PatientID = ds.PatientName = 'PHANTOM-OHIF'
    ds.SeriesDescription, ds.StudyDescription = 'PHANTOM squares', 'PHANTOM'
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = '20260105', '093000', '1', ''
    ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ''
    ds.ImageType, ds.PatientPosition = ['ORIGINAL', 'PRIMARY', 'AXIAL'], 'HFS'
    ds.ImageOrientationPatient = list(orientation)
    ds.PixelSpacing, ds.SliceThickness = [DOWN_MM, RIGHT_MM], STEP_MM
    ds.Columns, ds.Rows = COLUMNS, ROWS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.WindowCenter, ds.WindowWidth = 1, 0, 500, 1000
    normal = np.cross(orientation[:3], orientation[3:])
    for z in range(SLICES):
        ds.ImagePositionPatient = [round(float(v), 6) for v in z*STEP_MM*normal]
        ds.InstanceNumber = z + 1
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.add_new('PixelData', 'OW', image[:, :, z].T.tobytes())
        ds.save_as(folder/f'{z}.dcm', enforce_file_format=True)

# --- the viewer

@contextmanager
def viewer(files, here):
    "The address at which OHIF shows what an archive holds"
    name_types()
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler(files, here.settings['http']))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}'
    finally: server.shutdown()

def picture(page):
    "What the browser shows, (rows, columns, 3)"
    return np.array(Image.open(BytesIO(page.screenshot())).convert('RGB')).astype(int)

def scroll(page, n):
    "Go on by `n` slices"
    box = page.locator('canvas').first.bounding_box()
    page.mouse.move(box['x'] + box['width']/2, box['y'] + box['height']/2)
    for _ in range(n):
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(500)

def open_study(page, url, study, seconds=90):
    "Open a study in OHIF's mode for segmentations, and wait until its segmentation is drawn"
    page.goto(f'{url}/segmentation?StudyInstanceUIDs={study}')
    listed = page.get_by_text('Segmentation: research').first
    listed.wait_for(timeout=1000*seconds)
    page.locator('canvas').first.wait_for(timeout=1000*seconds)
    page.wait_for_timeout(3000)
    listed.dblclick()
    # it asks first, in a box that hides a part of the image
    page.get_by_role('button', name='Yes').click(timeout=1000*seconds)
    for _ in range(seconds):
        page.wait_for_timeout(1500)
        if colored_piece(in_viewport(page)).sum() > 500: return page.wait_for_timeout(2000)
        scroll(page, 1)  # it need not lie in the slice that is shown
    raise RuntimeError(f'no segmentation was drawn within {seconds} s')

def in_viewport(page):
    "The part of the picture that shows the image, without its edges, where words stand"
    box = page.locator('canvas').first.bounding_box()
    frame = 8  # of another colour where a viewport is chosen
    top, left = int(box['y']) + frame, int(box['x']) + frame
    bottom, right = int(box['y'] + box['height']), int(box['x'] + box['width'])
    return picture(page)[top:bottom - frame, left:right - frame]

def colored_piece(rgb):
    "Where the largest piece is that is neither grey nor the blue of OHIF's own signs"
    red, _, blue = np.moveaxis(rgb, -1, 0)
    pieces, n = ndi.label((np.ptp(rgb, axis=-1) > 30) & (red > blue))
    if not n: return np.zeros(pieces.shape, bool)
    sizes = ndi.sum_labels(pieces > 0, pieces, np.arange(1, n + 1))
    return ndi.binary_fill_holes(pieces == sizes.argmax() + 1)

def is_bright(rgb): return (rgb.min(axis=-1) > 200) & (np.ptp(rgb, axis=-1) < 20)

def letters(page):
    "What stands at the left and the upper edge of the image"
    return [page.locator(f'.{edge}.orientation-marker').first.inner_text().strip()
            for edge in ('left-mid', 'top-mid')]

# --- measured

class Measured(NamedTuple):
    z: int            # slice that is shown
    dice: float       # of what is coloured and of the mask
    off: float        # between their middles, in voxels
    edges: float      # the largest distance of their outermost columns and rows, in voxels
    mirrored: float   # Dice with the mask mirrored from side to side

def largest(where, n):
    "Middles (column, row) of the `n` largest pieces, the largest first"
    pieces, n_pieces = ndi.label(where)
    sizes = ndi.sum_labels(where, pieces, np.arange(1, n_pieces + 1))
    order = np.argsort(-sizes)[:n] + 1
    return np.array(ndi.center_of_mass(where, pieces, order))[:, ::-1]

def dice(a, b): return 2*(a & b).sum()/(a.sum() + b.sum())

def extent(where):
    "First and last column, first and last row"
    rows, columns = np.nonzero(where)
    return np.array([columns.min(), columns.max(), rows.min(), rows.max()])

def measure(rgb):
    "Compare what is coloured in a picture with where the mask must be"
    *seen_squares, seen_bar = largest(is_bright(rgb), 4)
    middles = np.array([(x + side/2 - .5, y + side/2 - .5) for x, y, side in SQUARES])
    # picture (column, row) = voxel (column, row, 1) @ to_picture, from three points
    to_picture = np.linalg.solve(np.c_[middles, np.ones(3)], np.array(seen_squares))
    matrix, origin = to_picture[:2], to_picture[2]
    def voxel_of(points): return (points - origin) @ np.linalg.inv(matrix)
    z = (voxel_of(seen_bar)[0] - (BAR[0] - 1)/2 - bar_column(0))/2
    _, mask = phantom()
    rows, columns = np.indices(rgb.shape[:2])
    voxels = np.rint(voxel_of(np.stack([columns, rows], -1).reshape(-1, 2))).astype(int)
    inside = ((voxels >= 0) & (voxels < (COLUMNS, ROWS))).all(axis=1)
    def drawn(mask):
        out = np.zeros(len(voxels), bool)
        out[inside] = mask[voxels[inside, 0], voxels[inside, 1], round(z)]
        return out.reshape(rgb.shape[:2])
    expected, colored = drawn(mask), colored_piece(rgb)
    pixels = abs(matrix).sum(axis=0)  # of the picture to a voxel, along its columns and rows
    off = (largest(colored, 1)[0] - largest(expected, 1)[0])/pixels
    edges = (extent(colored) - extent(expected))/np.repeat(pixels, 2)
    return Measured(round(z), round(float(dice(expected, colored)), 3), round(float(np.hypot(*off)), 3),
        round(float(abs(edges).max()), 3), round(float(dice(drawn(mask[::-1]), colored)), 3))

def look_at(page, url, name, here, folder):
    "Send a phantom and its mask, look at some slices: the letters and a `Measured` each"
    orientation, *_ = ORIENTATIONS[name]
    write_phantom(folder/name, orientation)
    _, mask = phantom()
    _, affine = load_series(folder/name, progress=False)
    seg = save_seg(mask, affine, folder/name, folder/f'{name}_seg.dcm', 'lesion')
    store(here.web, folder/name, progress=False)
    store(here.web, seg, progress=False)
    open_study(page, url, pydicom.dcmread(seg).StudyInstanceUID)
    measured = []
    for _ in range(3):
        page.screenshot(path=folder/f'{name}_{len(measured)}.png')
        measured.append(measure(in_viewport(page)))
        scroll(page, 1)
        page.wait_for_timeout(2500)
    return letters(page), measured

def problems(name, found, measured):
    "What is wrong with what was seen of a phantom, in words"
    _, *sides = ORIENTATIONS[name]
    wrong = []
    if [text[:1] for text in found] != sides: wrong.append(f'{name}: {found} at the edges')
    if len({m.z for m in measured}) < 2: wrong.append(f'{name}: the same slice each time')
    for m in measured:
        if m.dice < .9 or m.off > .5 or m.edges > 1 or m.mirrored > .2: wrong.append(f'{name}: {m}')
    return wrong

def look_at_all(files, folder, names=tuple(ORIENTATIONS)):
    "Name of an orientation -> what is wrong; pictures stay in `folder`"
    wrong = {}
    with chromium(WITH_GL) as browser, archive() as here, viewer(files, here) as url:
        page = browser.new_page(viewport=dict(width=1400, height=850))
        for name in names:
            found, measured = look_at(page, url, name, here, folder)
            print(name, found, *measured, sep='\n  ', flush=True)
            wrong[name] = problems(name, found, measured)
    return wrong

def palette(image, n_greys=56, n_colors=100):
    "Greys, and the colours of an image, to write it small"
    rgb = np.array(image)
    colors = rgb[np.ptp(rgb.astype(int), axis=-1) > 24]
    chosen = Image.fromarray(colors[None]).quantize(n_colors).getpalette()[:3*n_colors]
    greys = np.repeat(np.linspace(0, 255, n_greys).round().astype(int), 3)
    out = Image.new('P', (1, 1))
    out.putpalette([*greys.tolist(), *chosen])
    return out

def picture_of_lesson(files):
    "Run lesson 8 up to where its results are stored, and keep what OHIF shows of them"
    lesson = nbs/'08_archive.ipynb'
    os.chdir(nbs)  # the network lies there
    names = {}
    for cell in read_nb(lesson).cells:
        if cell.cell_type == 'code': exec(compile(cell.source, cell.id, 'exec'), names)
        if 'store(here.web, [seg, report]' in cell.source: break
    try:
        with chromium(WITH_GL) as browser, viewer(files, names['here']) as url:
            page = browser.new_page(viewport=dict(width=1100, height=700))
            open_study(page, url, names['wanted'].study_uid)
            scroll(page, 8)
            page.wait_for_timeout(3000)
            shown = Image.open(BytesIO(page.screenshot())).convert('RGB')
        shown.quantize(palette=palette(shown), dither=Image.Dither.NONE).save(
            nbs/'images/ohif.png', optimize=True)
    finally: names['stack'].close()

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('ohif', type=Path, help="OHIF's prebuilt files")
    parser.add_argument('--keep', type=Path, help='folder for the pictures')
    parser.add_argument('--only', nargs='*', default=list(ORIENTATIONS), choices=ORIENTATIONS,
                        help='orientations; without it: all')
    parser.add_argument('--lesson', action='store_true', help="write lesson 8's picture")
    args = parser.parse_args()
    files = args.ohif.resolve()
    if args.lesson: return picture_of_lesson(files)
    with tempfile.TemporaryDirectory() as folder:
        folder = args.keep or Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        wrong = look_at_all(files, folder, args.only)
    found = [problem for one in wrong.values() for problem in one]
    if found: sys.exit('\n'.join(found))

if __name__ == '__main__': main()
