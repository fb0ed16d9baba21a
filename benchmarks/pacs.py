"""An archive asked by medtut, and by the libraries of the field: `python benchmarks/pacs.py`

A CT phantom of 200 slices of 512 x 512 is sent to an archive, found, fetched and made a volume; a
threshold stands in for a network; the outline is written as SEG, sent, fetched and read. Each way
goes through the same archive in the same run, and its outline that came back is compared with the
one that was drawn. dicomweb-client, pynetdicom and highdicom are used as their documentation does.
Lines are those of the functions below, without `def`, docstrings and comments. CPU is that of the
process that asks, not of the archive. MONAI Deploy is not here: its SDK 4.0.0 requires
holoscan-cu13, which wants a GPU's libraries.

Then series of 200 and of 2,000 slices of 256 x 256 are fetched into files, each in a process of its
own: its peak memory, beside what it held before. Linux only.

`--store` writes the rows to nbs/toolbox/pacs_figures.jsonl, which the page on archives quotes."""
import argparse
import inspect
import json
import re
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
from _lines import lines_of
from _rows import append, options
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT/'nbs/toolbox/pacs_figures.jsonl'
PACKAGES = ['medtut', 'dicomweb-client', 'highdicom', 'pynetdicom', 'pydicom', 'numpy']
STEPS = ['send', 'find', 'fetch', 'outline', 'write', 'send_result', 'read_result']

# --- the phantom

def write_phantom(folder, slices, size, patient):
    "A CT series with a bright ball in noise"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID, ds.Modality = generate_uid(), 'CT'
    ds.PatientID, ds.PatientName, ds.SeriesDescription = patient, f'{patient}^', 'PHANTOM ct'
    ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ds.AccessionNumber = ''
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.SeriesNumber = '20260105', '093000', '1', 1
    ds.ImageType, ds.ImageOrientationPatient = ['ORIGINAL', 'PRIMARY', 'AXIAL'], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [.7, .7], 1.25
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    y, x = np.ogrid[:size, :size]
    noise = rng.integers(-100, 100, (size, size), np.int16)
    for z in range(slices):
        radius_2 = (size/5)**2 - (size/3*(2*z/slices - 1))**2
        ball = (x - size/3)**2 + (y - size/2)**2 < radius_2
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.ImagePositionPatient, ds.InstanceNumber = [-180, -180, 1.25*z], z + 1
        ds.add_new('PixelData', 'OW', (np.roll(noise, z) + 1000*ball.astype(np.int16)).tobytes())
        ds.save_as(folder/f'{z:04}.dcm', enforce_file_format=True)
    return ds

# --- the ways: a step each

class Medtut:
    "Over DICOMweb or DIMSE, as the address says"
    def __init__(self, address): self.address = address

    def send(self, folder):
        from medtut.pacs import store
        table = store(self.address, folder, progress=False)
        assert set(table.status) == {'stored'}

    def find(self, patient):
        from medtut.pacs import find_series
        self.series = find_series(self.address, PatientID=patient, Modality='CT').uid[0]

    def fetch(self, folder):
        from medtut.pacs import fetch_series
        from medtut.volumes import load_series
        self.folder = fetch_series(self.address, self.series, folder, progress=False)
        self.volume, self.affine = load_series(self.folder, progress=False)

    def outline(self): self.mask = self.volume > 500

    def write(self, path):
        from medtut.results import save_seg
        self.path = save_seg(self.mask, self.affine, self.folder, path, 'lesion')

    def send_result(self): self.send(self.path)

    def read_result(self, folder):
        from medtut.pacs import fetch_series
        from medtut.results import read_seg
        uid = pydicom.dcmread(self.path).SeriesInstanceUID
        folder = fetch_series(self.address, uid, folder, progress=False)
        seg = read_seg(next(folder.glob('*.dcm')), (self.volume.shape, self.affine))
        return seg.array > 0

class HighdicomResult:
    "The parts of a way that highdicom goes"
    def outline(self): self.mask = self.volume.with_array((self.volume.array > 500).astype(np.uint8))

    def write(self, path):
        from highdicom import AlgorithmIdentificationSequence
        from highdicom.seg import Segmentation, SegmentDescription
        from pydicom.sr.codedict import codes
        algorithm = AlgorithmIdentificationSequence(
            name='medtut', version='1', family=codes.DCM.ArtificialIntelligence)
        description = SegmentDescription(
            segment_number=1, segment_label='lesion',
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion, algorithm_type='AUTOMATIC',
            algorithm_identification=algorithm, tracking_uid=generate_uid(), tracking_id='lesion')
        self.seg = Segmentation(
            source_images=self.images, pixel_array=self.mask, segmentation_type='BINARY',
            segment_descriptions=[description], series_instance_uid=generate_uid(),
            series_number=100, sop_instance_uid=generate_uid(), instance_number=1,
            manufacturer='benchmark', manufacturer_model_name='benchmark', software_versions='1',
            device_serial_number='1', series_description='Segmentation')
        self.seg.save_as(path)

    def voxels(self, ds):
        from highdicom.seg import Segmentation
        seg = Segmentation.from_dataset(ds).get_volume(combine_segments=True)
        return seg.match_geometry(self.volume).array > 0

class DicomwebClient(HighdicomResult):
    def __init__(self, address):
        from dicomweb_client import DICOMwebClient
        self.client = DICOMwebClient(address)

    def send(self, folder):
        self.client.store_instances([pydicom.dcmread(path) for path in folder.glob('*.dcm')])

    def find(self, patient):
        filters = dict(PatientID=patient, Modality='CT')
        row, = self.client.search_for_series(search_filters=filters)
        ds = pydicom.Dataset.from_json(row)
        self.study, self.series = ds.StudyInstanceUID, ds.SeriesInstanceUID

    def fetch(self, folder):
        from highdicom import get_volume_from_series
        self.images = self.client.retrieve_series(self.study, self.series)
        self.volume = get_volume_from_series(self.images)

    def send_result(self): self.client.store_instances([self.seg])

    def read_result(self, folder):
        ds, = self.client.retrieve_series(self.study, self.seg.SeriesInstanceUID)
        return self.voxels(ds)

class Pynetdicom(HighdicomResult):
    def __init__(self, address):
        title, _, place = address.removeprefix('dicom://').partition('@')
        host, _, port = place.partition(':')
        self.title, self.host, self.port = title, host, int(port)

    def associate(self, contexts, **settings):
        from pynetdicom import AE
        ae = AE('MEDTUT')
        for context in contexts: ae.add_requested_context(context)
        assoc = ae.associate(self.host, self.port, ae_title=self.title, **settings)
        if not assoc.is_established: raise RuntimeError('no association')
        return assoc

    def store(self, datasets):
        assoc = self.associate({ds.SOPClassUID for ds in datasets})
        for ds in datasets:
            status = assoc.send_c_store(ds)
            if not status or status.Status: raise RuntimeError(f'not stored: {status}')
        assoc.release()

    def send(self, folder): self.store([pydicom.dcmread(path) for path in folder.glob('*.dcm')])

    def find(self, patient):
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND
        question = pydicom.Dataset()
        question.QueryRetrieveLevel, question.PatientID, question.Modality = 'SERIES', patient, 'CT'
        question.StudyInstanceUID = question.SeriesInstanceUID = ''
        assoc = self.associate([FIND])
        rows = [ds for status, ds in assoc.send_c_find(question, FIND) if ds]
        assoc.release()
        self.study, self.series = rows[0].StudyInstanceUID, rows[0].SeriesInstanceUID

    def retrieve(self, series, kind, keep):
        from pynetdicom import build_role, evt
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GET
        def on_store(event):
            ds = event.dataset
            ds.file_meta = event.file_meta
            keep(ds)
            return 0
        question = pydicom.Dataset()
        question.QueryRetrieveLevel = 'SERIES'
        question.StudyInstanceUID, question.SeriesInstanceUID = self.study, series
        assoc = self.associate([GET, kind], ext_neg=[build_role(kind, scp_role=True)],
                               evt_handlers=[(evt.EVT_C_STORE, on_store)])
        for status, _ in assoc.send_c_get(question, GET):
            if not status or status.Status not in (0, 0xFF00): raise RuntimeError(f'{status}')
        assoc.release()

    def fetch(self, folder):
        from highdicom import get_volume_from_series
        self.images = []
        self.retrieve(self.series, CTImageStorage, self.images.append)
        self.volume = get_volume_from_series(self.images)

    def send_result(self): self.store([self.seg])

    def read_result(self, folder):
        results = []
        self.retrieve(self.seg.SeriesInstanceUID, self.seg.SOPClassUID, results.append)
        return self.voxels(results[0])

# --- lines, seconds

def count_lines(way):
    "Lines of all that a way needs"
    methods = inspect.getmembers(way, inspect.isfunction)
    return sum(lines_of(method) for _, method in methods)

def timed(function, *args):
    start, cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    return result, time.perf_counter() - start, time.process_time() - cpu

def go(name, way, address, sent, patient, folder):
    "One way from end to end: a row of seconds for each step"
    arguments = dict(send=[sent], find=[patient], fetch=[folder/'fetched'], outline=[],
                     write=[folder/'seg.dcm'], send_result=[], read_result=[folder/'back'])
    walker, row = way(address), dict(part='way', way=name, lines=count_lines(way))
    for step in STEPS:
        back, row[step], row[f'{step} cpu'] = timed(getattr(walker, step), *arguments[step])
    drawn = walker.mask if isinstance(walker.mask, np.ndarray) else walker.mask.array
    if not np.array_equal(back, drawn > 0): raise RuntimeError(f'{name}: another mask came back')
    row |= dict(voxels=int(np.count_nonzero(back)), images=len(list(sent.glob('*.dcm'))))
    return row

WAYS = {
    'medtut, DICOMweb': (Medtut, 'web'),
    'dicomweb-client and highdicom': (DicomwebClient, 'web'),
    'medtut, DIMSE': (Medtut, 'dicom'),
    'pynetdicom and highdicom': (Pynetdicom, 'dicom')}

# --- memory

def fetch_medtut(address, study, series, folder):
    from medtut.pacs import fetch_series
    fetch_series(address, series, folder, progress=False)

def fetch_whole(address, study, series, folder):
    from dicomweb_client import DICOMwebClient
    for i, ds in enumerate(DICOMwebClient(address).retrieve_series(study, series)):
        ds.save_as(folder/f'{i}.dcm')

def fetch_one_by_one(address, study, series, folder):
    from dicomweb_client import DICOMwebClient
    for i, ds in enumerate(DICOMwebClient(address).iter_series(study, series)):
        ds.save_as(folder/f'{i}.dcm')

def fetch_pynetdicom(address, study, series, folder):
    way = Pynetdicom(address)
    way.study = study
    way.retrieve(series, CTImageStorage, lambda ds: ds.save_as(folder/f'{ds.InstanceNumber}.dcm'))

FETCHERS = {
    'medtut, DICOMweb': (fetch_medtut, 'web'), 'medtut, DIMSE': (fetch_medtut, 'dicom'),
    'dicomweb-client, retrieve_series': (fetch_whole, 'web'),
    'dicomweb-client, iter_series': (fetch_one_by_one, 'web'),
    'pynetdicom': (fetch_pynetdicom, 'dicom')}

def peak():
    "Most bytes that this process held; getrusage would say those of the one that started it"
    return int(re.search(r'VmHWM:\s*(\d+) kB', Path('/proc/self/status').read_text())[1])*1024

def fetch_alone(name, address, small, study, series, folder):
    """Run in a process of its own: fetch a series of one image, so that all is imported, then the
    series; prints the bytes of both peaks and seconds"""
    fetch, _ = FETCHERS[name]
    for sub in ('small', 'large'): (Path(folder)/sub).mkdir()
    fetch(address, *small.split(), Path(folder)/'small')
    before = peak()
    _, seconds, _ = timed(fetch, address, study, series, Path(folder)/'large')
    n = len(list((Path(folder)/'large').glob('*.dcm')))
    print(json.dumps(dict(before=before, peak=peak(), seconds=seconds, images=n)))

def memory_row(name, archive, small, ds, n):
    _, protocol = FETCHERS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, '--alone', name, getattr(archive, protocol),
                   ' '.join(small), ds.StudyInstanceUID, ds.SeriesInstanceUID, folder]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr)
    row = dict(part='memory', way=name) | json.loads(done.stdout.splitlines()[-1])
    if row['images'] != n: raise RuntimeError(f'{name}: {row["images"]} of {n} images came')
    print(f'{name}: {n} images in {row["seconds"]:.1f} s, {row["peak"]/1e6:.0f} MB at most, '
          f'{row["before"]/1e6:.0f} before', flush=True)
    return row

# --- all

def measure_ways(args):
    "Each way on an archive of its own: no series is there already"
    from medtut.pacs import archive
    for name, (way, protocol) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, archive() as here:
            address = getattr(here, protocol)
            # a small one first: what is imported and opened once is not measured
            for patient, n, size in ('small', 3, 32), ('large', args.slices, args.size):
                sent = Path(folder)/patient/'sent'
                write_phantom(sent, n, size, patient)
                row = go(name, way, address, sent, patient, sent.parent)
        print(f'{name}: {row["lines"]} lines, ' + ', '.join(
            f'{step} {row[step]:.2f} s' for step in STEPS), flush=True)
        yield row

def measure_memory(args):
    from medtut.pacs import archive, store
    with tempfile.TemporaryDirectory() as folder, archive() as here:
        headers = {}
        for n in (1, *args.series):
            headers[n] = write_phantom(Path(folder)/str(n), n, args.small_size, f'PHANTOM-{n}')
            store(here.web, Path(folder)/str(n), progress=False)
        small = headers[1].StudyInstanceUID, headers[1].SeriesInstanceUID
        for name in args.fetchers:
            for n in args.series: yield memory_row(name, here, small, headers[n], n)

def about(args):
    from medtut.pacs import archive
    sys.path.insert(0, str(ROOT/'tools'))
    from bench import machine
    with archive() as here: kind = here.kind
    return dict(part='about', date=str(date.today()), machine=machine(), archive=kind,
                busy=args.busy, versions={name: version(name) for name in PACKAGES})

def main():
    if sys.argv[1:2] == ['--alone']: return fetch_alone(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--slices', type=int, default=200)
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--small-size', type=int, default=256)
    parser.add_argument('--series', type=int, nargs='*', default=[200, 2_000])
    parser.add_argument('--fetchers', nargs='*', default=list(FETCHERS))
    parser.add_argument('--busy', action='store_true', help='other work runs beside it')
    parser.add_argument('--store', action='store_true', help='keep the rows for the page')
    args = options(parser, slices=6, size=32, small_size=32, series=[3],
                   fetchers=['medtut, DICOMweb'])
    rows = [about(args), *measure_ways(args), *measure_memory(args)]
    for row in rows: append(row, args.rows)
    if args.store: STORED.write_text(''.join(json.dumps(row) + '\n' for row in rows))

if __name__ == '__main__': main()
