"Label files against the true ones: hand-made values, refusals, and nothing gained by missing"
import warnings

import numpy as np
import pandas as pd
import pytest
from command_line import medtut

from medtut.evaluate import (
    MEASURES,
    comparison_text,
    evaluate_cases,
    label_files,
    pair_files,
    summary_text,
)
from medtut.nifti import save_nifti
from medtut.planes import VolumeError
from medtut.summaries import summarise

NAMES = {1: 'edema', 2: 'core'}
SHAPE, AFFINE = (12, 12, 12), np.diag([1., 1, 2, 1])
DIAGONAL = (12**2 + 12**2 + 24**2)**.5
SAME = 'ignore:no interval for:medtut.metrics.UndefinedMetric'
pytestmark = pytest.mark.filterwarnings(SAME)


def labelled(core=True, shift=0):
    "Edema of 4 x 4 x 4 voxels, with a core of 2 x 2 x 2 in it"
    label = np.zeros(SHAPE, np.uint8)
    label[4:8, 4:8, 4:8] = 1
    if core:
        label[5:7, 5:7, 5:7] = 2
    return np.roll(label, shift, 0)


@pytest.fixture
def folders(tmp_path):
    "Five true scans, of which one has no core; the model is one voxel off and misses one core"
    for i in range(5):
        has_core, finds_core = i < 4, i < 3
        save_nifti(labelled(has_core), AFFINE, tmp_path/'truth'/f'{i}.nii.gz')
        save_nifti(labelled(finds_core, shift=1), AFFINE, tmp_path/'pred'/f'{i}.nii.gz')
    return tmp_path


def evaluated(folders, prediction='pred', **settings):
    pairs = pair_files(folders/prediction, folders/'truth')
    return evaluate_cases(pairs, NAMES, n_jobs=1, progress=False, **settings)


def test_scores_by_hand(folders):
    table = evaluated(folders).set_index(['case', 'region'])
    # 2 x 2 x 2 voxels, moved by one: half of them overlap
    assert table.dice['0', 'core'] == .5
    # without a core, 3 of 4 layers overlap
    assert table.dice['4', 'edema'] == .75
    assert table.label_ml['0', 'core'] == pytest.approx(8*2/1000)
    assert table.hd95_mm['4', 'edema'] == 1
    assert table.dice['3', 'core'] == 0
    assert np.isnan(table.hd95_mm['3', 'core'])
    assert np.isnan(table.dice['4', 'core'])
    assert 'neither' in table.note['4', 'core']
    assert table.diagonal_mm.unique() == pytest.approx([DIAGONAL])


def test_summary_by_hand(folders):
    table = evaluated(folders)
    core = summarise(table, MEASURES, worst_mm=DIAGONAL).loc['core']
    assert core[['cases', 'present', 'missed', 'invented']].tolist() == [5, 4, 1, 0]
    assert core.dice.value == pytest.approx(3*.5/4)
    assert core.hd95_mm.value == pytest.approx((3*1 + DIAGONAL)/4)
    assert core.detected.value == .75
    assert core.rightly_absent.value == 1
    text = summary_text(table)
    assert f'{DIAGONAL:.1f} mm' in text
    assert 'left out' in text
    assert 'Patients: 5, scans: 5' in text
    assert 'detection sensitivity' in text


@pytest.mark.parametrize('measure', MEASURES)
def test_missing_everything_improves_no_mean(folders, measure):
    for i in range(5):
        save_nifti(np.zeros(SHAPE, np.uint8), AFFINE, folders/'nothing'/f'{i}.nii.gz')
    found, nothing = evaluated(folders), evaluated(folders, 'nothing')
    means = [summarise(t, [measure], worst_mm=DIAGONAL)[measure].map(lambda m: m.value)
             for t in (found, nothing)]
    if measure == 'hd95_mm': assert (means[0] < means[1]).all()
    else: assert (means[0] > means[1]).all()
    text = comparison_text(found, nothing, ('the model', 'nothing'))
    assert 'nothing is higher' not in text


def test_regions_are_labels_together(folders):
    table = evaluated(folders, regions={'whole': [1, 2]}).set_index(['case', 'region'])
    assert table.dice['0', 'whole'] == .75
    assert table.label_ml['0', 'whole'] == pytest.approx(64*2/1000)


def test_several_scans_of_a_patient(folders):
    patients = {'0': 'P', '1': 'P', '2': 'Q', '3': 'R', '4': 'S'}
    assert 'Patients: 4, scans: 5' in summary_text(evaluated(folders), patients)


def test_one_file_each(folders):
    pairs = pair_files(folders/'pred'/'0.nii.gz', folders/'truth'/'1.nii.gz')
    assert list(pairs) == ['1']
    assert len(evaluate_cases(pairs, NAMES, n_jobs=1, progress=False)) == 2


def test_endings_do_not_matter(folders):
    save_nifti(labelled(), AFFINE, folders/'plain'/'0.nii')
    (folders/'plain'/'._0.nii').write_bytes(b'of a Mac')
    (folders/'plain'/'notes.txt').write_text('no image')
    assert list(label_files(folders/'plain')) == ['0']
    save_nifti(labelled(), AFFINE, folders/'plain'/'0.nii.gz')
    with pytest.raises(VolumeError, match='two files of one case'):
        label_files(folders/'plain')


def test_a_truth_without_a_prediction_is_refused(folders):
    (folders/'pred'/'2.nii.gz').unlink()
    with pytest.raises(VolumeError, match=r'truth/2.nii.gz: no prediction named 2.*1 of 5'):
        pair_files(folders/'pred', folders/'truth')


def test_a_prediction_without_a_truth_is_told(folders):
    save_nifti(labelled(), AFFINE, folders/'pred'/'other.nii.gz')
    with pytest.warns(UserWarning, match=r'other.nii.gz: no truth.*1 of 6'):
        assert 'other' not in pair_files(folders/'pred', folders/'truth')


def replaced(folders, label, affine=AFFINE):
    "The folders with another prediction of the last case; what then is said"
    save_nifti(label, affine, folders/'pred'/'4.nii.gz')
    with pytest.raises(VolumeError) as error:
        evaluated(folders)
    return str(error.value)


def test_what_does_not_fit_is_refused_by_name(folders):
    shifted = AFFINE.copy()
    shifted[0, 3] = .5
    for message in (replaced(folders, labelled(), shifted), replaced(folders, labelled()[:10])):
        assert 'pred/4.nii.gz' in message
        assert 'resample' in message
    message = replaced(folders, labelled()*2)
    assert 'pred/4.nii.gz: holds label 4' in message
    assert 'name it' in message
    message = replaced(folders, np.stack([labelled()]*2, -1))
    assert '2 channels' in message
    message = replaced(folders, labelled()*np.float32(.5))
    assert 'pred/4.nii.gz' in message
    assert 'whole numbers' in message
    (folders/'pred'/'4.nii.gz').write_bytes(b'\x1f\x8bcut')
    with pytest.raises(VolumeError, match='pred/4.nii.gz'):
        evaluated(folders)


@pytest.mark.parametrize('labels, regions, message', [
    ({}, None, 'none named'), ({0: 'background'}, None, 'is no label'),
    ({1: 'a', 2: 'a'}, None, 'names two things'), ({1: 'a'}, {'a': [1]}, 'names two things'),
    ({1: 'a'}, {'b': [2]}, 'made of')])
def test_labels_that_make_no_sense(folders, labels, regions, message):
    pairs = pair_files(folders/'pred', folders/'truth')
    with pytest.raises(ValueError, match=message):
        evaluate_cases(pairs, labels, regions, progress=False)


def test_processes_change_nothing(folders):
    pairs = pair_files(folders/'pred', folders/'truth')
    one, two = [evaluate_cases(pairs, NAMES, n_jobs=n, progress=False) for n in (1, 2)]
    pd.testing.assert_frame_equal(one, two)


# --- the command

def evaluate(folders, *args):
    return medtut('evaluate', 'pred', 'truth', '--labels', '1=edema,2=core', '-j', 1, '-q', *args,
                  cwd=folders)


def test_command(folders):
    done = evaluate(folders, '--csv', 'scores.csv', '--region', 'whole=1+2')
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folders/'scores.csv')
    assert table.region.tolist() == ['edema', 'core', 'whole']*5
    assert set(table.prediction) == {'pred'}
    rows = [line for line in done.stdout.splitlines() if line.split()[1:2] == ['core']]
    assert len(rows) == 5
    assert 'missed' in done.stdout
    assert 'longest diagonal' in done.stdout


def test_command_compares(folders):
    for i in range(5):
        save_nifti(labelled(i < 4, shift=2 + i % 2), AFFINE, folders/'worse'/f'{i}.nii.gz')
    done = evaluate(folders, '--against', 'worse')
    assert 'edema, dice: pred is higher than worse' in done.stdout, done.stderr
    assert 'edema, hd95_mm: pred is lower than worse' in done.stdout


def test_command_with_patients(folders):
    rows = '\n'.join(f'{i},{"PPQRS"[i]}' for i in range(5))
    (folders/'patients.csv').write_text(f'case,patient\n{rows}\n')
    assert 'Patients: 4, scans: 5' in evaluate(folders, '--patients', 'patients.csv').stdout


def test_command_refuses_patients_that_lack_a_case_before_it_scores(folders):
    (folders/'patients.csv').write_text('case,patient\n0,P\n1,P\n2,Q\n3,R\n')
    (folders/'pred'/'0.nii.gz').write_bytes(b'never read')
    done = evaluate(folders, '--patients', 'patients.csv')
    assert done.returncode == 1
    assert not done.stdout
    assert 'patients.csv: no row of case 4 (1 of 5 cases' in done.stderr


def test_command_never_replaces_the_patients(folders):
    rows = 'case,patient\n' + ''.join(f'{i},P{i}\n' for i in range(5))
    (folders/'patients.csv').write_text(rows)
    done = evaluate(folders, '--patients', 'patients.csv', '--csv', 'patients.csv')
    assert done.returncode == 2
    assert 'would replace the table of patients' in ' '.join(done.stderr.split())
    assert (folders/'patients.csv').read_text() == rows


def test_command_refuses_a_region_named_twice(folders):
    done = evaluate(folders, '--region', 'whole=1+2', '--region', 'whole=2')
    assert done.returncode == 2
    assert 'region whole is named twice' in ' '.join(done.stderr.split())


def test_command_refuses_in_a_sentence(folders):
    (folders/'pred'/'2.nii.gz').unlink()
    done = evaluate(folders, '--csv', 'scores.csv')
    assert done.returncode == 1
    assert not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert 'truth/2.nii.gz' in done.stderr
    assert 'predict them too' in done.stderr
    assert not (folders/'scores.csv').exists()


@pytest.mark.parametrize('labels', ['edema', '1=edema,1=core', '0=nothing', '1=', '1=a,2=a'])
def test_command_refuses_labels(folders, labels):
    done = medtut('evaluate', 'pred', 'truth', '--labels', labels, cwd=folders)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr


def test_no_warning_of_its_own(folders):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        evaluated(folders)

def test_two_cases_of_other_names_are_not_joined():
    "Two single files may have any names; a table of cases says which is which"
    with pytest.raises(VolumeError, match='no prediction named B'):
        pair_files({'A': 'a.nii'}, {'B': 'b.nii'})


@pytest.mark.filterwarnings('ignore:.*not at right angles:UserWarning')
def test_a_sheared_grid_is_refused(tmp_path):
    "Distances are measured along the axes, as of a tilted gantry they are not at right angles"
    sheared = AFFINE.copy()
    sheared[1, 2] = 2*np.tan(np.radians(20))
    for name in 'truth', 'pred': save_nifti(labelled(), sheared, tmp_path/name/'1.nii.gz')
    pairs = pair_files(tmp_path/'pred', tmp_path/'truth')
    with pytest.raises(VolumeError, match='truth/1.nii.gz: its axes are not at right angles'):
        evaluate_cases(pairs, NAMES, n_jobs=1, progress=False)
