"The chest sample set: reproducible across processes, and headed like the real files."
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import RAISE
from pydicom.dataelem import DataElement

from medtut.phantoms import brain_anatomy
from medtut.phantoms.chest import chest
from medtut.phantoms.chest_files import plan_siim_small, to_dicom, write_siim_small


def test_a_larger_set_begins_with_the_smaller(tmp_path):
    for name, n in (('few', 3), ('more', 5)):
        (tmp_path/name).mkdir()
        write_siim_small(tmp_path/name, n=n, size=128, progress=False)
    for path in (tmp_path/'few').rglob('*.dcm'):
        assert path.read_bytes() == (tmp_path/'more'/path.relative_to(tmp_path/'few')).read_bytes()

@pytest.mark.parametrize('bits', [8, 12])
def test_elements_are_valid_but_for_the_age(bits):
    ds = to_dicom(chest(1, size=128, bits=bits), 'test')
    for element in ds:
        if element.keyword not in ('PatientAge', 'PixelData'):
            DataElement(element.tag, element.VR, element.value, validation_mode=RAISE)
    with pytest.raises(ValueError):
        DataElement('PatientAge', 'AS', ds.PatientAge, validation_mode=RAISE)

def test_same_elements_as_a_real_file():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    real = sorted(Path(folder or '').glob('siim/1.*.dcm')) if folder else []
    if not real:
        pytest.skip('MEDTUT_REAL_FILES does not name a folder with a real SIIM radiograph in siim/')
    real, drawn = pydicom.dcmread(real[0]), to_dicom(chest(1, size=128), 'test')
    # no real file has them
    marks = {'QualityControlSubject', 'QualityControlImage', 'ImageComments', 'StudyDescription'}
    assert not marks & {e.keyword for e in real}
    unmarked = [(e.tag, e.VR) for e in drawn if e.keyword not in marks]
    assert [(e.tag, e.VR) for e in real] == unmarked
    assert real.file_meta.TransferSyntaxUID == drawn.file_meta.TransferSyntaxUID
    for keyword in ('SOPClassUID', 'Modality', 'ConversionType', 'StudyDate', 'StudyTime',
                    'BodyPartExamined', 'SeriesNumber', 'PhotometricInterpretation',
                    'LossyImageCompression', 'LossyImageCompressionMethod', 'BitsStored'):
        assert real[keyword].value == drawn[keyword].value, keyword

@pytest.mark.parametrize('patient', ['test', 'Miller^Ann', '5b0e', 'PHANTOM^0001', 'PHANTOM-1'])
def test_no_name_makes_a_patient_of_a_phantom(patient):
    ds = to_dicom(chest(1, size=64), 'test', patient)
    assert str(ds.PatientName) == ds.PatientID
    assert ds.PatientID.startswith('PHANTOM')
    assert patient in ds.PatientID
    assert to_dicom(chest(1, size=64), 'test', ds.PatientID).PatientID == ds.PatientID
    assert 'view: ' in ds.SeriesDescription
    assert ds.SeriesDescription.startswith('PHANTOM')

def test_a_shortcut_is_planted_on_request(tmp_path):
    drawn = write_siim_small(tmp_path, n=25, size=64, tube_p=(0, 1), progress=False)
    assert np.array_equal(drawn.tube, drawn.pneumothorax)

def test_areas_can_be_asked_for(tmp_path):
    drawn = write_siim_small(tmp_path, n=25, size=64, prevalence=1, area=(.02, .03),
                             progress=False)
    assert drawn.area.between(.015, .035).all()
    assert drawn.area.nunique() > 20

def test_who_comes_again_lies_down_no_more_often(tmp_path):
    """40 % of the films are AP, whoever is on them (`draw_film`). A film and its place in the plan
    must not share their random numbers: NumPy takes the seed [3, 7] for [3, 7, 0]"""
    drawn = write_siim_small(tmp_path, n=60, size=64, repeat_p=.5, progress=False)
    for again, films in drawn.groupby(drawn.patient.duplicated()):
        assert len(films) > 20
        assert .15 < (films.view == 'AP').mean() < .65, 'again' if again else 'for the first time'

# --- what is refused

def test_a_prevalence_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match='prevalence is between 0 and 1, not 1.5'):
        plan_siim_small(prevalence=1.5)

@pytest.mark.parametrize('folder, says', [
    ('nowhere', 'is not a folder: make it first'), ('full', 'full is not empty')])
def test_a_sample_needs_an_empty_folder(tmp_path, folder, says):
    (tmp_path/'full'/'kept').mkdir(parents=True)
    with pytest.raises(ValueError, match=says):
        write_siim_small(tmp_path/folder)

def test_brains_need_nilearn(monkeypatch):
    monkeypatch.setattr(brain_anatomy, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match='pip install nilearn'):
        brain_anatomy.icbm_maps()

@pytest.mark.parametrize('mm', [.5, 7])
def test_voxels_of_a_brain_have_1_to_6_mm(mm):
    with pytest.raises(ValueError, match=f'spacing {mm} mm: .* 1 to 6 mm'):
        brain_anatomy.box_axes(mm)
