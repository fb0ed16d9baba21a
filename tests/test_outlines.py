"""Cases without a set's rules, and masks drawn elsewhere: each voxel stays at its place in mm, by
SimpleITK, and what is doubtful is refused in words"""
import io
import json
import shutil
import warnings

import nrrd
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medtut.cases import check_cases, find_cases, load_case
from medtut.nifti import load_nifti, save_nifti
from medtut.nnunet import splits_final
from medtut.outlines import import_outline, on_grid, read_drawing
from medtut.pairs import find_pairs
from medtut.planes import VolumeError
from medtut.volumes import reorient

# no axis is like another, voxels neither, and nothing is symmetric
SHAPE = (14, 19, 10)
AFFINE = np.array([[2, 0, 0, -13], [0, 1.5, 0, 7.5], [0, 0, 3, 40], [0, 0, 0, 1.]])
ORIENTATIONS = 'RAS', 'LPS', 'SAL', 'PIR', 'ILA', 'ASR'

def truth():
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 3:14, 1:4] = 1
    label[2:4, 3:6, 4:9] = 2
    return label

@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return save_nifti(values, AFFINE, tmp_path/'set/images/p1.nii.gz')

def as_sitk(label, affine):
    "The same voxels at the same places, for ITK, which counts in LPS and z first"
    picture = sitk.GetImageFromArray(np.ascontiguousarray(label.T))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    picture.SetSpacing(sizes.tolist())
    picture.SetDirection((lps[:3, :3]/sizes).ravel().tolist())
    picture.SetOrigin(lps[:3, 3].tolist())
    return picture

def places_by_sitk(path, k):
    "mm in LPS of the voxels of a label"
    picture = sitk.ReadImage(str(path))
    voxels = np.argwhere(sitk.GetArrayFromImage(picture).T == k)
    mm = [picture.TransformIndexToPhysicalPoint(v.tolist()) for v in voxels]
    return np.array(sorted(np.round(mm, 3).tolist()))

@pytest.mark.parametrize('ending', ['nii.gz', 'nii', 'nrrd'])
@pytest.mark.parametrize('axes', ORIENTATIONS)
def test_a_mask_along_other_axes_keeps_its_places(image, tmp_path, axes, ending):
    "Written by ITK, as ITK-SNAP and 3D Slicer do"
    drawn = tmp_path/f'drawn.{ending}'
    sitk.WriteImage(sitk.DICOMOrient(as_sitk(truth(), AFFINE), axes), str(drawn))
    outline = import_outline(drawn, image)
    assert (outline.label == truth()).all()
    assert outline.label.dtype == np.uint8
    saved = save_nifti(outline.label, outline.affine, tmp_path/'imported.nii.gz')
    for k in (1, 2):
        before, after = (places_by_sitk(p, k) for p in (drawn, saved))
        assert np.allclose(before, after, atol=2e-3)

@pytest.mark.parametrize('axes', ORIENTATIONS)
def test_a_resampled_mask_stays_where_it_is_in_mm(image, tmp_path, axes):
    "Finer voxels, turned: refused at first; when asked for, as ITK resamples it"
    fine = sitk.Resample(as_sitk(truth(), AFFINE), [28, 38, 30], sitk.Transform(),
                         sitk.sitkNearestNeighbor, [12.5, -8, 39], [1, .75, 1],
                         as_sitk(truth(), AFFINE).GetDirection())
    drawn = tmp_path/'fine.nrrd'
    sitk.WriteImage(sitk.DICOMOrient(fine, axes), str(drawn))
    with pytest.raises(VolumeError, match='fine.nrrd: its voxels do not lie on those of the image'):
        import_outline(drawn, image)
    label = import_outline(drawn, image, resampled=True).label
    by_itk = sitk.Resample(sitk.ReadImage(str(drawn)), as_sitk(truth(), AFFINE), sitk.Transform(),
                           sitk.sitkNearestNeighbor)
    assert (label == sitk.GetArrayFromImage(by_itk).T).mean() > .99
    assert label.any()

def write_slicer(path, layers, segments, start=(0, 0, 0), **fields):
    "As 3D Slicer writes a segmentation: (layer, x, y, z), LPS; segments: (name, layer, value)"
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    directions = np.vstack([[np.nan]*3, lps[:3, :3].T])
    header = {'space': 'left-posterior-superior', 'kinds': ['list', *['domain']*3],
              'space directions': directions, 'space origin': (lps @ [*start, 1])[:3]}
    for i, (name, layer, value) in enumerate(segments):
        header |= {f'Segment{i}_ID': f'Segment_{i}', f'Segment{i}_Name': name,
                   f'Segment{i}_Layer': str(layer), f'Segment{i}_LabelValue': str(value)}
    nrrd.write(str(path), np.array(layers, np.uint8), header | fields)
    return path

def test_slicers_segments_in_layers_and_in_a_box(image, tmp_path):
    box = np.s_[1:8, 2:15, :]
    label = truth()[box]
    path = write_slicer(tmp_path/'s.seg.nrrd', [label == 1, 3*(label == 2)],
                        [('Head', 0, 1), ('Tail', 1, 3)], start=(1, 2, 0))
    outline = import_outline(path, image)
    assert outline.names == {1: 'Head', 3: 'Tail'}
    assert (outline.label == np.array([0, 1, 3])[truth()]).all()
    outline = import_outline(path, image, labels={2: 'head', 1: 'tail'})
    assert (outline.label == np.array([0, 2, 1])[truth()]).all()
    assert set(np.unique(import_outline(path, image, {1: 'tail'}).label)) == {0, 1}

def test_segments_from_before_there_were_layers(image, tmp_path):
    "Each in an array of its own, with 1 in it, and no word of it in the header"
    path = write_slicer(tmp_path/'old.seg.nrrd', [truth() == 1, truth() == 2],
                        [('a', 0, 1), ('b', 1, 1)])
    data, header = nrrd.read(str(path))
    old = {k: v for k, v in header.items() if not k.endswith(('Layer', 'LabelValue'))}
    nrrd.write(str(path), data, old)
    outline = import_outline(path, image)
    assert outline.names == {1: 'a', 2: 'b'}
    assert (outline.label == truth()).all()

def test_segments_that_do_not_fit_are_refused(image, tmp_path):
    def refused(message, *args, labels=None, **fields):
        path = write_slicer(tmp_path/'x.seg.nrrd', *args, **fields)
        with pytest.raises(VolumeError, match=f'x.seg.nrrd: {message}'):
            import_outline(path, image, labels)
    both = [truth() > 0, truth() == 2]
    refused('a and b share 30 voxels', both, [('a', 0, 1), ('b', 1, 1)])
    refused('0 segments named c; there is a; b', both, [('a', 0, 1), ('b', 1, 1)], labels={1: 'c'})
    refused('2 segments named a', both, [('a', 0, 1), ('A', 1, 1)], labels={1: 'a'})
    refused('b is said to lie in layer 2', both, [('a', 0, 1), ('b', 2, 1)])
    refused('2 layers without names', both, [])
    path = write_slicer(tmp_path/'y.seg.nrrd', [truth()], [('a', 0, 1)],
                        Segment0_Extent='2 5 3 13 1 2')
    with pytest.warns(UserWarning, match='44 voxels of a lie beyond the box'):
        assert (import_outline(path, image).label == (truth() == 1)).all()

@pytest.mark.parametrize('path, message', [
    ('none.nii', 'no such file'), ('image.nii', 'outlines are whole numbers|fractions|whole'),
    ('junk.nrrd', 'can not be read as NRRD'), ('cut.nrrd', 'can not be read as NRRD'),
    ('bare.nrrd', 'no directions'), ('inches.nrrd', 'lengths in in, in, in'),
    ('huge.nrrd', 'too many for outlines|can not be read')])
def test_files_that_are_no_outlines(image, tmp_path, path, message):
    affine = np.diag([-1, -1, 1, 1]) @ AFFINE
    places = {'space': 'LPS', 'space directions': affine[:3, :3].T, 'space origin': affine[:3, 3]}
    save_nifti(*load_nifti(image), tmp_path/'image.nii')
    (tmp_path/'junk.nrrd').write_bytes(b'NRRD0004\nno header')
    nrrd.write(str(tmp_path/'whole.nrrd'), truth(), places)
    (tmp_path/'cut.nrrd').write_bytes((tmp_path/'whole.nrrd').read_bytes()[:-20])
    nrrd.write(str(tmp_path/'bare.nrrd'), truth())
    nrrd.write(str(tmp_path/'inches.nrrd'), truth(), places | {'space units': ['in']*3})
    text = (tmp_path/'whole.nrrd').read_bytes().replace(b'14 19 10', b'99999 99999 9999')
    (tmp_path/'huge.nrrd').write_bytes(text)
    with pytest.raises(VolumeError, match=message) as refusal:
        read_drawing(tmp_path/path)
    assert path in str(refusal.value)

def test_a_mask_of_another_scan_is_refused(image, tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 24
    path = save_nifti(truth(), moved, tmp_path/'moved.nii')
    with pytest.raises(VolumeError, match='moved.nii: .* a mask of another image, perhaps'):
        import_outline(path, image)
    path = write_slicer(tmp_path/'out.seg.nrrd', [truth()], [('a', 0, 1)], start=(10, 0, 0))
    with pytest.raises(VolumeError, match='out.seg.nrrd: 66 of 132 .*outside of the image'):
        import_outline(path, image)
    part = save_nifti(truth()[:-1], AFFINE, tmp_path/'part.nii')
    with pytest.raises(VolumeError, match=r'part.nii: it has \(13, 19, 10\) voxels of .*image'):
        import_outline(part, image)
    assert (import_outline(part, image, resampled=True).label == truth()).all()
    moved[0, 3] += 300.3
    path = save_nifti(truth(), moved, tmp_path/'far.nii')
    with pytest.raises(VolumeError, match='far.nii: its voxels do not lie'):
        import_outline(path, image)
    with pytest.raises(VolumeError, match='far.nii: 162 of 162 .*outside of the image'):
        import_outline(path, image, resampled=True)

def test_resampling_loses_nothing_unsaid(image, tmp_path):
    "A part beyond the image, and a lesion smaller than a voxel of the image"
    half = AFFINE @ np.diag([.5, .5, .5, 1])
    fine = np.kron(truth(), np.ones((2, 2, 2), np.uint8))
    moved = half.copy()
    moved[0, 3] -= 7
    path = save_nifti(fine, moved, tmp_path/'beyond.nii')
    with pytest.raises(VolumeError, match='beyond.nii: .*outside of the image'):
        import_outline(path, image, resampled=True)
    fine[20, 30, 15] = 3
    path = save_nifti(fine, half, tmp_path/'small.nii')
    with pytest.raises(VolumeError, match='small.nii: nothing is left of label 3'):
        import_outline(path, image, resampled=True)

@pytest.mark.parametrize('number', [0, 256, 1.5, '1'])
def test_numbers_that_no_voxel_can_hold(image, tmp_path, number):
    path = write_slicer(tmp_path/'s.seg.nrrd', [truth()], [('a', 0, 1)])
    with pytest.raises(ValueError, match='from 1 to 255'): import_outline(path, image, {number: 'a'})

def test_more_segments_than_a_label_can_number(image, tmp_path):
    """Segments of 300 layers, each with 1 in it, as Slicer before version 5 wrote them: a label of
    one byte numbers 255"""
    layers = np.zeros((300, *SHAPE), np.uint8)
    layers.reshape(300, -1)[range(300), range(300)] = 1
    segments = [(f's{i}', i, 1) for i in range(300)]
    path = write_slicer(tmp_path/'many.seg.nrrd', layers, segments)
    with pytest.raises(VolumeError, match=r"many.seg.nrrd: s255 has number 256.*labels=\{1: 's255'"):
        import_outline(path, image)
    label = import_outline(path, image, {1: 's255'}).label
    assert np.argwhere(label.ravel()).tolist() == [[255]]

def test_a_segments_own_number_beyond_a_byte(image, tmp_path):
    "Nothing is drawn of it: a file with 300 in a voxel is refused as it is read"
    path = write_slicer(tmp_path/'s.seg.nrrd', [truth()], [('a', 0, 1), ('b', 0, 300)])
    with pytest.raises(VolumeError, match='s.seg.nrrd: b has number 300'):
        import_outline(path, image)

@pytest.mark.parametrize('ending', ['nii', 'nrrd'])
def test_masks_with_numbers_beyond_a_byte(image, tmp_path, ending):
    "258 is 2 in one byte"
    mask = truth().astype(np.uint16)
    mask[mask == 2] = 258
    sitk.WriteImage(as_sitk(mask, AFFINE), str(tmp_path/f'drawn.{ending}'))
    with pytest.raises(VolumeError, match=f'drawn.{ending}: numbers from 0 to 258'):
        import_outline(tmp_path/f'drawn.{ending}', image)

def test_a_header_with_two_orientations(tmp_path):
    "sform and qform that disagree: the sform counts, and a warning says so"
    import nibabel as nib
    picture = nib.Nifti1Image(truth(), AFFINE)
    picture.set_sform(AFFINE, code=1)
    picture.set_qform(AFFINE @ np.diag([1, -1, 1, 1]), code=1)
    nib.save(picture, tmp_path/'two.nii')
    with pytest.warns(UserWarning, match='two.nii: two orientations in the header'):
        assert np.allclose(load_nifti(tmp_path/'two.nii').affine, AFFINE)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load_nifti(save_nifti(truth(), AFFINE, tmp_path/'one.nii'))

# --- cases

def pairs_in(folder, *names, axes='SAL'):
    "A folder with images and masks by these names"
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for name in names:
        is_mask = 'mask' in name or 'label' in name
        volume = reorient(truth(), AFFINE, axes) if is_mask else (values, AFFINE)
        save_nifti(*volume, folder/name)
    return folder

@pytest.mark.parametrize('names', [
    ('images/p1.nii.gz', 'masks/p1.nii.gz'), ('imagesTr/p1.nii.gz', 'labelsTr/p1.nii.gz'),
    ('p1.nii.gz', 'p1_mask.nii'), ('p1_image.nii', 'p1-label.nii.gz'), ('p1_ct.nii', 'p1_mask.nii'),
    ('p1/imaging.nii', 'p1/mask.nii'), ('train/p1/p1_img.nii', 'train/p1/p1_mask.nii')])
def test_pairs_are_found_without_a_special_call(tmp_path, names):
    table = find_cases(pairs_in(tmp_path, *names))
    case, = table.itertuples()
    assert case.layout == 'pairs'
    assert case.missing == ''
    assert case.case in ('p1', 'p1_ct')
    assert (load_case(table.iloc[0]).label == truth()).all()

def test_masks_of_slicer_in_a_folder(tmp_path):
    pairs_in(tmp_path, 'p1.nii.gz')
    write_slicer(tmp_path/'p1.seg.nrrd', [truth()], [('one', 0, 1), ('two', 0, 2)])
    label = load_case(find_cases(tmp_path, labels={1: 'two', 2: 'one'}).iloc[0]).label
    assert (label == np.array([0, 2, 1])[truth()]).all()

@pytest.mark.parametrize('number', [-1, 256, 2.5])
def test_cases_with_numbers_that_no_voxel_can_hold(tmp_path, number):
    "In what the mask's numbers mean, and in those wanted; 0 leaves a part out"
    pairs_in(tmp_path, 'a.nii', 'a_mask.nii')
    row = find_cases(tmp_path, labels={1: 'head', 2: 'tail'}).iloc[0]
    with pytest.raises(ValueError, match='from 1 to 255'):
        load_case(row, labels={1: 'head', number: 'tail'})
    assert (load_case(row, labels={1: 'head', 0: 'tail'}).label == (truth() == 1)).all()
    row = find_cases(tmp_path, labels={1: 'head', number: 'tail'}).iloc[0]
    with pytest.raises(ValueError, match='from 1 to 255'):
        load_case(row, labels={1: 'head', 2: 'tail'})

def test_partners_that_lack_are_listed(tmp_path):
    table = find_cases(pairs_in(tmp_path, 'images/a.nii', 'images/b.nii', 'masks/b.nii',
                                'masks/c.nii')).set_index('case', drop=False)
    assert table.missing.to_dict() == dict(a='seg', b='', c='image')
    assert table.note.to_dict() == dict(a='no mask', b='', c='no image for c.nii')
    assert load_case(table.loc['a']).label is None
    with pytest.raises(VolumeError, match='c: has no image'): load_case(table.loc['c'])

def test_doubt_is_refused(tmp_path):
    pairs_in(tmp_path, 'a.nii', 'a_mask.nii', 'a_label.nii')
    with pytest.raises(VolumeError, match='a: two masks for it, .*a_label.nii and a_mask.nii'):
        find_cases(tmp_path)
    (tmp_path/'a_label.nii').unlink()
    pairs_in(tmp_path, 'A.nii', 'A_mask.nii')
    with pytest.raises(VolumeError, match='a: two images for it'): find_cases(tmp_path)
    for name in 'A.nii', 'A_mask.nii': (tmp_path/name).unlink()
    moved = AFFINE + np.diag([0, 0, 0.4, 0])
    save_nifti(truth(), moved, tmp_path/'a_mask.nii')
    with pytest.raises(VolumeError, match='a_mask.nii: its voxels do not lie on those of the image'):
        load_case(find_cases(tmp_path).iloc[0])

def test_nnunet_raw_is_read_as_it_was_written(tmp_path):
    "By `export_nnunet`; two channels by hand; without a dataset.json; of the older kind"
    from medtut.nnunet import export_nnunet
    pairs_in(tmp_path/'own', 'images/a.nii', 'masks/a.nii')
    with pytest.raises(ValueError, match='nothing says what the numbers'):
        export_nnunet(find_cases(tmp_path/'own'), tmp_path, 1, 'Own')
    table = find_cases(tmp_path/'own', labels={1: 'head', 2: 'tail'})
    raw = export_nnunet(table, tmp_path, 1, 'Own')
    row = find_cases(raw).iloc[0]
    assert (row.layout, row.sequences, row.labels) == (
        'nnunet', ('image',), {1: 'head', 2: 'tail'})
    case, first = load_case(row), load_case(table.iloc[0])
    assert np.array_equal(case.image, first.image)
    assert np.array_equal(case.label, first.label)
    second = raw/'imagesTr/a_0001.nii.gz'
    save_nifti(-case.image[0], case.affine, second)
    with pytest.raises(VolumeError, match='channel 1, and dataset.json names 1 channel'):
        find_cases(raw)
    about = json.loads((raw/'dataset.json').read_text())
    about['channel_names'] = {'0': 'in', '1': 'out'}
    (raw/'dataset.json').write_text(json.dumps(about))
    both = load_case(find_cases(raw).iloc[0], ('out', 'in')).image
    assert np.array_equal(both, [-case.image[0], case.image[0]])
    older = dict(modality={'0': 'in', '1': 'out'}, labels={'0': 'background', '1': 'head',
                 '2': 'tail'})
    (raw/'dataset.json').write_text(json.dumps(older))
    assert find_cases(raw).iloc[0].labels == {1: 'head', 2: 'tail'}
    (raw/'dataset.json').unlink()
    assert find_cases(raw).iloc[0].sequences == ('0000', '0001')
    second.unlink()
    shutil.copy(raw/'imagesTr/a_0000.nii.gz', raw/'imagesTr/b_0000.nii.gz')
    assert find_cases(raw).note.tolist() == ['', 'no labelsTr/b']

def test_two_numbers_of_one_part(tmp_path):
    "Nothing says which is wanted, and in nnU-Net's dataset.json a name has one number"
    from medtut.nnunet import export_nnunet
    pairs_in(tmp_path/'own', 'a.nii', 'a_mask.nii')
    table = find_cases(tmp_path/'own', labels={1: 'kidney', 2: 'kidney'})
    with pytest.raises(ValueError, match="'kidney' names two things"):
        export_nnunet(table, tmp_path, 1, 'Own')
    with pytest.raises(ValueError, match="'kidney' names two things"):
        load_case(table.iloc[0], labels={1: 'kidney', 3: 'kidney'})
    both = load_case(table.iloc[0], labels={1: 'kidney'}).label
    assert (both == (truth() > 0)).all()

@pytest.mark.parametrize('labels, message', [
    (dict(background=0, a=1, b=1), 'one number for two names'),
    (dict(background=0, a=1, ignore=2), 'nobody looked at')])
def test_labels_of_nnunet_that_mean_something_else(tmp_path, labels, message):
    pairs_in(tmp_path, 'imagesTr/a_0000.nii.gz', 'labelsTr/a.nii.gz')
    about = dict(channel_names={'0': 'CT'}, labels=labels)
    (tmp_path/'dataset.json').write_text(json.dumps(about))
    with pytest.raises(VolumeError, match=f'dataset.json: .*{message}'): find_cases(tmp_path)

def test_names_that_may_be_one_patient(tmp_path):
    "Noted, as file names are typed; 1-11 and 11-1 are two"
    pairs_in(tmp_path, *[f'{part}/{name}.nii' for part in ('images', 'masks')
                         for name in ('P-01', 'p01', '1-11', '11-1', 'q')])
    notes = find_cases(tmp_path).set_index('case').note.to_dict()
    assert notes == {'P-01': 'the same patient as p01?', 'p01': 'the same patient as P-01?',
                     '1-11': '', '11-1': '', 'q': ''}

def test_a_patient_named_by_a_folder_is_noted(tmp_path):
    """Names can't tell centres with people from people with visits, nor a batch from a person.

    To split a person in two would be worse, so the upper folder is taken, and said."""
    cases = 'centreA/p1', 'centreA/p2', 'centreB/p3'
    pairs_in(tmp_path, *[f'{case}/{name}.nii.gz' for case in cases for name in ('image', 'mask')])
    table = find_cases(tmp_path)
    assert table.case.tolist() == ['centreA_p1', 'centreA_p2', 'centreB_p3']
    assert table.patient.tolist() == ['centreA', 'centreA', 'centreB']
    assert table.note.str.contains("patient taken from folder 'centre[AB]'; if that is no").all()
    assert load_case(table.iloc[0]).label is not None

@pytest.mark.parametrize('names, patients, starts', [
    # nothing but its own folder or file names a case
    (('p1/image.nii', 'p1/mask.nii', 'p2/image.nii', 'p2/mask.nii'), ['p1', 'p2'], None),
    (('train/p1/image.nii', 'train/p1/mask.nii'), ['p1'], None),
    (('images/p1.nii', 'masks/p1.nii', 'images/p2.nii', 'masks/p2.nii'), ['p1', 'p2'], None),
    # several cases in a folder, which may be a person or a batch
    (('b1/images/p1.nii', 'b1/masks/p1.nii', 'b1/images/p2.nii', 'b1/masks/p2.nii'),
     ['b1', 'b1'], ['', '']),
    # beside another note
    (('a/p1/image.nii', 'a/p2/image.nii', 'a/p2/mask.nii'), ['a', 'a'], ['no mask; ', '']),
    (('a/p1/mask.nii', 'a/p2/image.nii', 'a/p2/mask.nii'), ['a', 'a'],
     ['no image for mask.nii; ', ''])])
def test_which_patients_are_noted(tmp_path, names, patients, starts):
    table = find_cases(pairs_in(tmp_path, *names))
    assert table.patient.tolist() == patients
    expected = [''] * len(patients)
    if starts:
        taken = f"patient taken from folder '{patients[0]}'; if that is no person, set column patient"
        expected = [start + taken for start in starts]
    assert table.note.tolist() == expected

def test_a_mask_in_the_mirror_says_where_it_lies(image, tmp_path):
    mirrored = save_nifti(truth(), np.diag([1, -1, 1, 1]) @ AFFINE, tmp_path/'m.nii')
    lies = r'first at \(-13, -7.5, 40\) mm.*first at \(-13, 7.5, 40\) mm'
    with pytest.raises(VolumeError, match=lies):
        import_outline(mirrored, image)

def test_names_that_begin_alike(tmp_path):
    "case1 is no beginning of case10"
    pairs_in(tmp_path, 'case1.nii', 'case10.nii', 'case10_mask.nii', 'case1_2.nii')
    table = find_cases(tmp_path).set_index('case')
    assert table.missing.to_dict() == {'case1': 'seg', 'case10': '', 'case1_2': 'seg'}

def test_sets_with_rules_of_their_own_are_not_taken_for_pairs(tmp_path):
    from medtut.phantoms.hippocampus import write_msd_hippocampus
    root = write_msd_hippocampus(tmp_path/'msd', n=2, n_jobs=1, progress=False)
    assert set(find_cases(root).layout) == {'msd'}
    (root/'dataset.json').unlink()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert set(find_cases(root).layout) == {'pairs'}

def test_numbers_of_named_segments_are_not_taken_for_granted(tmp_path):
    """Slicer numbers segments in the order in which they were made, which differs from file to
    file; before, liver in one case was tumour in the next"""
    pairs_in(tmp_path, 'p1.nii.gz')
    write_slicer(tmp_path/'p1.seg.nrrd', [truth()], [('liver', 0, 1), ('tumour', 0, 2)])
    table = find_cases(tmp_path)
    says = r"p1.seg.nrrd: segments named liver; tumour, .*labels=\{1: 'liver', 2: 'tumour'\}"
    with pytest.raises(VolumeError, match=says):
        load_case(table.iloc[0])
    assert 'segments named' in check_cases(table).problem[0]

def test_a_mask_with_channels_is_refused(tmp_path):
    "One-hot masks, or BraTS' three regions, each with 0 and 1"
    rng = np.random.default_rng(0)
    save_nifti(rng.random((6, 5, 4), np.float32), AFFINE, tmp_path/'imagesTr/a_0000.nii.gz')
    save_nifti(np.ones((6, 5, 4, 3), np.uint8), AFFINE, tmp_path/'labelsTr/a.nii.gz')
    with pytest.raises(VolumeError, match='a.nii.gz: 3 channels; a mask has one'):
        load_case(find_cases(tmp_path).iloc[0])

def test_a_table_that_was_a_text_file_is_refused_in_words(tmp_path):
    table = find_cases(pairs_in(tmp_path, 'a.nii', 'a_mask.nii'))
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    with pytest.raises(ValueError, match='a: a row that has been in a text file'):
        load_case(again.iloc[0])

@pytest.mark.parametrize('number', [300, 256, -1, .5, np.nan])
def test_no_number_wraps(number):
    "Before, 300 became 44, and 256 background"
    grid = (2, 2, 2), np.eye(4)
    for resampled in False, True:
        with pytest.raises(VolumeError, match='mask: '):
            on_grid(np.full((2, 2, 2), number), np.eye(4), grid, resampled)

def test_numbers_off_by_a_rounding_error_are_rounded():
    "As resampling elsewhere leaves them"
    label = on_grid(np.full((2, 2, 2), .9999999), np.eye(4), ((2, 2, 2), np.eye(4)))
    assert (label == 1).all() and label.dtype == np.uint8

def test_a_case_is_named_as_its_word_is_written(tmp_path):
    "Not as the same letter in the word before it: Image_A"
    names = [f'{kind}_{case}.nii.gz' for kind in ('Image', 'Mask') for case in 'AB']
    for name in names: (tmp_path/name).touch()
    assert [pair.case for pair in find_pairs(tmp_path)] == ['A', 'B']

def test_what_lies_too_deep_is_told(tmp_path):
    for folder in 'p1', 'centre/p2/2020/nifti':
        for name in 'image.nii.gz', 'mask.nii.gz':
            path = tmp_path/folder/name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with pytest.warns(UserWarning, match='nifti: more than 3 folders down'):
        assert [pair.case for pair in find_pairs(tmp_path)] == ['p1']

@pytest.mark.parametrize('column, says', [
    (dict(split=['Train', 'train', 'valid', 'valid']), "a is in part 'Train'"),
    (dict(split=['train', None, 'valid', 'valid']), 'b is in part (None|nan)'),
    (dict(split=['valid']*4), 'none of 4 cases'),
    (dict(split=['train', 'valid', 'valid', 'valid'], patient=[1, 1, 2, 3]), 'patient 1 is in')])
def test_a_split_that_is_none_is_refused(tmp_path, column, says):
    "Before, whatever was not 'train' went to validation"
    table = pd.DataFrame(dict(case=list('abcd')) | column)
    with pytest.raises(ValueError, match=says):
        splits_final(table, tmp_path/'splits_final.json')
