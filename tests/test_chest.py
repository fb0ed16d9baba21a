"Lesson 3's package part against faults, odd files, other libraries' answers and a real radiograph"
import io
import os
import pickle
import random
import shutil
from pathlib import Path

import fastai.vision.all  # noqa: F401 - adds show_batch, tta, no_bar and others to fastai's classes
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from fastai.learner import Learner, load_learner
from fastai.losses import CrossEntropyLossFlat
from hypothesis import given, settings, strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from sklearn.metrics import roc_curve

from medtut.chest import (
    PILRadiograph,
    TensorRadiograph,
    _Film,
    chest_dataloaders,
    fit_temperature,
    read_labels,
    small_xresnet,
    threshold_for_sensitivity,
)
from medtut.display import to_display
from medtut.errors import DicomError
from medtut.phantoms.chest import chest
from medtut.phantoms.chest_files import to_dicom, write_siim_small
from medtut.rle import rle_decode, rle_encode
from medtut.weights import load_weights, save_weights

# of odd files, and of torch.jit, which fastai uses
pytestmark = pytest.mark.filterwarnings('ignore')

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "A small sample set, many of whose films are of patients seen before"
    folder = tmp_path_factory.mktemp('films')
    write_siim_small(folder, seed=11, n=40, size=64, prevalence=.5, repeat_p=.4,
                     monochrome1_p=.3, progress=False)
    return folder

@pytest.fixture
def copy(films, tmp_path):
    "One that a test may damage"
    return shutil.copytree(films, tmp_path/'copy')

def array(film): return np.asarray(film, float)

# radiographs

@pytest.mark.parametrize('bits', [8, 12])
@pytest.mark.parametrize('inverted', [False, True])
def test_bit_depth_and_inversion_change_nothing(bits, inverted):
    drawn, plain = chest(5, True, size=128, bits=bits), chest(5, True, size=128)
    film = array(PILRadiograph.create(to_dicom(drawn, 'a', monochrome1=inverted)))
    assert np.corrcoef(film.ravel(), plain.pixels.ravel())[0, 1] > .999

@pytest.mark.parametrize('bits', [9, 10, 14, 16])
def test_other_bit_depths(bits):
    ds, stored = to_dicom(chest(5, size=128, bits=12), 'a'), chest(5, size=128, bits=12).pixels
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelData = (stored.astype(float)/4095*(2**bits - 1)).astype('<u2').tobytes()
    assert np.corrcoef(array(PILRadiograph.create(ds)).ravel(), stored.ravel())[0, 1] > .999

def test_path_bytes_and_data_set_are_one(films):
    path = films/pd.read_csv(films/'labels.csv').file[0]
    film = PILRadiograph.create(path)
    sources = (path, str(path), path.read_bytes(), pydicom.dcmread(path), film, np.asarray(film))
    for source in sources:
        again = PILRadiograph.create(source)
        assert again.mode == 'L'
        assert type(again) is PILRadiograph
        assert again.tobytes() == film.tobytes()

def test_every_file_opens_or_says_why():
    "pydicom's own odd files: an 8-bit grey picture as `to_display` has it, or a `DicomError`"
    opened, refused = 0, 0
    folder = Path(get_testdata_file('CT_small.dcm', download=False)).parent
    for path in sorted(folder.rglob('*.dcm')):
        try: film = PILRadiograph.create(path)
        except DicomError:
            refused += 1
            continue
        opened += 1
        ds = pydicom.dcmread(path, force=True)
        assert film.mode == 'L'
        assert film.size == (ds.Columns, ds.Rows)
    assert opened >= 30
    assert refused >= 10

def test_several_frames_are_refused():
    ds = to_dicom(chest(5, size=64, bits=12), 'a')
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData*2
    with pytest.raises(DicomError, match='2 frames'):
        PILRadiograph.create(ds)

# pictures that are no DICOM: one third of white in each type is 85 of 255, and so on

THIRDS = np.array([[0, 85], [170, 255]], np.uint8)
SIXTEEN = THIRDS.astype(np.uint16)*257 # 65535 is white, 65535/255 is 257

def on_disk(tmp_path, image, name):
    image.save(tmp_path/name)
    return Image.open(tmp_path/name)

def grey(x): return Image.fromarray(x)

FLOATS = (THIRDS/255).astype(np.float32)
PICTURES = dict(
    uint8=THIRDS, uint16=SIXTEEN, big_endian=SIXTEEN.astype('>u2'), not_in_a_row=SIXTEEN.T.copy().T,
    float32=FLOATS, float64=THIRDS/255, float16=FLOATS.astype(np.float16),
    one_channel=THIRDS[..., None], rgb=np.stack([THIRDS]*3, -1),
    rgb_of_16_bits=np.stack([SIXTEEN]*3, -1),
    opaque=np.stack([THIRDS]*3 + [THIRDS*0 + 255], -1),
    tensor=torch.tensor(THIRDS), tensor_of_16_bits=torch.tensor(SIXTEEN),
    tensor_of_floats=torch.tensor(FLOATS),
    tensor_with_channel=torch.tensor(THIRDS)[None], bfloat16=torch.tensor(FLOATS).bfloat16(),
    radiograph=TensorRadiograph(torch.tensor(THIRDS)[None]),
    radiograph_of_floats=TensorRadiograph(torch.tensor(FLOATS)[None]),
    pillow=grey(THIRDS), pillow_16=grey(SIXTEEN), pillow_16_big=grey(SIXTEEN.astype('>u2')),
    pillow_float=grey(FLOATS), pillow_rgb=grey(THIRDS).convert('RGB'),
    pillow_rgba=grey(THIRDS).convert('RGBA'),
    pillow_la=grey(THIRDS).convert('LA'), pillow_palette=grey(THIRDS).convert('RGB').quantize(4))
ON_DISK = {'8.png': THIRDS, '16.png': SIXTEEN, '16.tif': SIXTEEN, 'float.tif': FLOATS}

@pytest.mark.parametrize('kind', [*PICTURES, *ON_DISK])
def test_pictures_of_every_type_are_scaled_by_its_range(kind, tmp_path):
    if kind in PICTURES: source = PICTURES[kind]
    else: source = on_disk(tmp_path, grey(ON_DISK[kind]), kind)
    film = PILRadiograph.create(source)
    assert type(film) is PILRadiograph
    assert film.mode == 'L'
    assert np.abs(array(film) - THIRDS).max() <= (kind == 'bfloat16') # which has 8 binary digits

@pytest.mark.parametrize('kind', ['array', 'pillow', 'png', 'tensor'])
def test_one_bit_is_black_or_white(kind, tmp_path):
    bits = THIRDS > 100
    png = on_disk(tmp_path, grey(bits), 'x.png')
    sources = dict(array=bits, pillow=grey(bits), png=png, tensor=torch.tensor(bits))
    assert array(PILRadiograph.create(sources[kind])).tolist() == [[0, 0], [255, 255]]

def test_rounding_is_to_the_nearest():
    "Every value of 16 bits, in whole numbers: 255*v/65535 is v/257"
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert (array(PILRadiograph.create(values)) == np.round(values/257)).all()

@pytest.mark.parametrize('dtype', [np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64,
                                   np.complex64, object])
def test_types_without_a_white_are_refused(dtype):
    "What is white in a type that goes far beyond what a picture uses, or below 0?"
    with pytest.raises(ValueError, match=f'{np.dtype(dtype)}.*white.*uint8'):
        PILRadiograph.create(THIRDS.astype(np.uint8).astype(dtype))

def test_pillows_32_bits_are_refused(tmp_path):
    whole = Image.fromarray(SIXTEEN.astype(np.int32))
    for image in whole, on_disk(tmp_path, whole, 'x.tif'):
        assert image.mode == 'I'
        with pytest.raises(ValueError, match='int32.*white'):
            PILRadiograph.create(image)

@pytest.mark.parametrize('make', [np.array, torch.tensor, lambda x: grey(np.array(x, np.float32))])
@pytest.mark.parametrize('wrong,said', [(np.nan, 'not finite'), (np.inf, 'not finite'),
                                        (-.5, 'from -0.5 to 1'), (255., 'from 0 to 255')])
def test_floats_go_from_0_to_1(make, wrong, said):
    with pytest.raises(ValueError, match=said):
        PILRadiograph.create(make([[0., 1.], [.5, wrong]]))

@pytest.mark.parametrize('shape', [(), (4,), (0, 4), (2, 4, 5), (3, 5, 6), (1, 1, 4, 4), (4, 4, 2)])
def test_shapes_that_are_no_picture_are_refused(shape):
    for make in np.zeros, torch.zeros:
        with pytest.raises(ValueError, match=r'\(rows, columns\).*found'):
            PILRadiograph.create(make(shape))

def test_transparency_is_refused():
    "What is seen through it, black or white, is not said"
    glass = np.stack([THIRDS]*4, -1)
    for source in glass, Image.fromarray(glass), Image.fromarray(glass).convert('LA'):
        with pytest.raises(ValueError, match='transparent'):
            PILRadiograph.create(source)

@pytest.mark.parametrize('source', [None, 5, dict(a=1), [[0, 255]]])
def test_other_things_are_refused(source):
    with pytest.raises(ValueError, match=f'{type(source).__name__}.*DICOM'):
        PILRadiograph.create(source)

def test_open_files_are_read(tmp_path):
    on_disk(tmp_path, Image.fromarray(SIXTEEN), 'x.png')
    with open(tmp_path/'x.png', 'rb') as f:
        assert (array(PILRadiograph.create(f)) == THIRDS).all()
    with pytest.raises(ValueError, match='no picture'):
        PILRadiograph.create(io.BytesIO(b'<html>'))

def test_a_png_by_its_path(tmp_path):
    "A path may be a picture's; what it is, its first bytes say"
    on_disk(tmp_path, Image.fromarray(SIXTEEN), 'x.png')
    assert (array(PILRadiograph.create(tmp_path/'x.png')) == THIRDS).all()

# tables

def test_faults_of_a_table(copy):
    table = pd.read_csv(copy/'labels.csv')
    (copy/table.file[3]).write_bytes(b'<html>please log in')
    with pytest.raises(ValueError, match='1 of 40 files can not be read.*web page'):
        read_labels(copy)
    (copy/table.file[3]).unlink()
    with pytest.raises(ValueError, match='no such file'):
        read_labels(copy)
    table.rename(columns=dict(label='diagnosis')).to_csv(copy/'labels.csv')
    with pytest.raises(ValueError, match=r"no column \['label'\]"):
        read_labels(copy)
    (copy/'labels.csv').unlink()
    with pytest.raises(FileNotFoundError): read_labels(copy)

@pytest.mark.parametrize('patient', ['', '   ', None])
def test_a_film_without_a_patient_is_refused(copy, patient):
    path = copy/pd.read_csv(copy/'labels.csv').file[7]
    ds = pydicom.dcmread(path)
    if patient is None: del ds.PatientID
    else: ds.PatientID = patient
    ds.save_as(path)
    with pytest.raises(ValueError, match='no PatientID in 1 of 40 files.*column "patient"'):
        chest_dataloaders(copy)

def test_own_patient_column_is_used(copy):
    table = pd.read_csv(copy/'labels.csv').assign(patient=np.arange(40)//4)
    table.to_csv(copy/'labels.csv', index=False)
    dls = chest_dataloaders(copy, size=32, fractions=(.6, .2, .2))
    assert [part.items.patient.nunique() for part in dls.loaders] == [6, 2, 2]

@pytest.mark.parametrize('patients', [
    ['P1', 'P1 '], ['P1', 'p1'], ['1', '01'], ['P1', None], ['P1', ' ']])
def test_a_patient_column_that_hides_a_leak(copy, patients):
    "Of a table that brings its own split: nothing else compares its patients"
    table = pd.read_csv(copy/'labels.csv').assign(
        patient=[patients[0]]*20 + [patients[1]]*20,
        split=['train']*20 + ['valid']*10 + ['test']*10)
    with pytest.raises(ValueError, match='one way|without a patient'):
        chest_dataloaders(copy, size=32, table=table)
    table.drop(columns='split').to_csv(copy/'labels.csv', index=False)
    if patients != ['1', '01']: # pandas reads both as 1
        with pytest.raises(ValueError, match='labels.csv: .*(one way|without a patient)'):
            read_labels(copy)

def test_patient_ids_of_headers(copy):
    """Blanks round an id mean nothing in DICOM (PS3.5 6.2, LO);
    another case may be another patient: refused, and named"""
    files = pd.read_csv(copy/'labels.csv').file
    for file, name in zip(files[:2], ('SAME', 'SAME ')):
        ds = pydicom.dcmread(copy/file)
        ds.PatientID = name
        ds.save_as(copy/file)
    assert read_labels(copy).patient[:2].tolist() == ['SAME', 'SAME']
    ds.PatientID = 'Same'
    ds.save_as(copy/file)
    with pytest.raises(ValueError, match=r"\['SAME', 'Same'\]"):
        read_labels(copy)

def test_masks_are_siims_code():
    mask = chest(5, True, size=64).mask
    assert (rle_decode(rle_encode(mask), mask.shape) == mask).all()

# batches

def test_a_torn_patient_is_refused(films):
    table = read_labels(films)
    table['split'] = ['train', 'valid', 'test', 'train']*10
    with pytest.raises(ValueError, match='in more than one part'):
        chest_dataloaders(films, table=table)
    with pytest.raises(ValueError, match=r"split holds \['dev'\]"):
        chest_dataloaders(films, table=table.assign(split='dev'))

@pytest.mark.parametrize('seed', range(5))
def test_no_patient_in_two_parts(films, seed):
    dls = chest_dataloaders(films, size=32, seed=seed, fractions=(.6, .2, .2))
    parts = [set(part.items.patient) for part in dls.loaders]
    assert len(parts) == 3
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sum(len(part.items) for part in dls.loaders) == 40

def test_seed_is_all_that_matters(films):
    def order(seed):
        dls = chest_dataloaders(films, size=32, bs=4, seed=seed, augment=False)
        return [x.mean().item() for x, _ in dls.train]
    random.seed(1)
    one = order(0)
    random.seed(2)
    assert order(0) == one != order(1)

def test_global_generators_are_left_alone(films):
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    before = state()
    chest_dataloaders(films, size=32)
    assert state() == before

def test_a_batch_is_the_films(films):
    "Pixels and labels of a batch are those of the files, each beside its own"
    dls = chest_dataloaders(films, size=64, bs=40, fractions=(.6, .2, .2))
    for part in dls.loaders[1:]:
        (x, y), rows = part.one_batch(), part.items
        assert type(x) is TensorRadiograph
        assert x.dtype == torch.float32
        assert x.shape == (len(rows), 1, 64, 64)
        wanted = np.stack([to_display(pydicom.dcmread(films/f)) for f in rows.file])
        assert np.allclose((x[:, 0].cpu()*.25 + .5)*255, wanted, atol=.01)
        assert [dls.vocab[i] for i in y] == rows.label.tolist()

def test_nothing_is_cut_off():
    "An oblong film keeps both of its ends"
    stripes = np.zeros((100, 200), np.uint8)
    stripes[:, :20] = stripes[:, -20:] = 255
    small = array(_Film('.', 64).open(PILRadiograph.create(stripes)))
    assert small.shape == (64, 64)
    assert small[0].max() == 0
    assert small[32, 1] > 200
    assert small[32, -2] > 200

def test_worker_processes_give_the_same(films):
    one, two = (chest_dataloaders(films, size=32, bs=4, num_workers=n) for n in (0, 2))
    for (x, y), (x2, y2) in zip(one.valid, two.valid):
        assert (x == x2).all() and (y == y2).all()

# networks

@pytest.mark.parametrize('options', [
    dict(), dict(c_in=3, n_out=5), dict(sa=True), dict(widths=(8, 8, 8)),
    dict(act_cls=torch.nn.ReLU)])
def test_shapes_of_the_network(options):
    model = small_xresnet(**options).eval()
    x = torch.randn(2, options.get('c_in', 1), 64, 64)
    halvings = len(options.get('widths', range(4)))
    assert model(x).shape == (2, options.get('n_out', 2))
    assert model[:-4](x).shape[2:] == (64 >> halvings,)*2
    assert isinstance(model[-1], torch.nn.Linear)

def test_it_learns_something_planted():
    """A bright square where the label says so:
    a network that can't find it in some steps can't find anything"""
    x, y = torch.randn(64, 1, 32, 32), torch.arange(64) % 2
    x[y == 1, :, 8:16, 8:16] += 2
    torch.manual_seed(0)
    model = small_xresnet(widths=(8, 16, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.eval()(x).argmax(1) == y).float().mean() > .9

def test_learner_through_and_through(films, tmp_path):
    "Train, predict from path, row, bytes and picture, export without pictures, load"
    dls = chest_dataloaders(films, size=32, bs=8, fractions=(.6, .2, .2))
    learn = Learner(dls, small_xresnet(widths=(8, 16)), path=tmp_path,
                    loss_func=CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
        row = dls[2].items.iloc[0]
        path = films/row.file
        items = (path, str(path), row, path.read_bytes(), PILRadiograph.create(path),
                 pydicom.dcmread(path))
        answers = [learn.predict(item)[2] for item in items]
        batch = learn.get_preds(ds_idx=2)[0][0]
        learn.export('learn.pkl')
        again = load_learner(tmp_path/'learn.pkl')
        with again.no_bar():
            answers.append(again.predict(path)[2])
    for p in answers:
        assert torch.allclose(p, batch, atol=1e-5)
    opener = again.dls.train.dataset.tls[0].tfms[0]
    assert type(opener) is _Film
    assert not opener.kept

# weights

def test_weights_come_back(tmp_path):
    one, two = small_xresnet(), small_xresnet()
    about = dict(classes=['No Pneumothorax', 'Pneumothorax'], size=128, threshold=.25)
    assert load_weights(two, save_weights(one, tmp_path/'w.safetensors', **about)) == about
    assert all((a == b).all() for a, b in zip(one.state_dict().values(), two.state_dict().values()))

def test_half_precision_is_converted(tmp_path):
    path = save_weights(small_xresnet().half(), tmp_path/'w.safetensors')
    model = small_xresnet()
    load_weights(model, path) # the same names and shapes: numbers are converted
    assert all(p.dtype == torch.float32 for p in model.parameters())

def test_files_that_do_not_fit(tmp_path):
    model, whole = small_xresnet(), save_weights(small_xresnet(), tmp_path/'whole.safetensors')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path/'went off',)
    (tmp_path/'cut').write_bytes(whole.read_bytes()[:5000])
    (tmp_path/'pickle').write_bytes(pickle.dumps(Bomb()))
    (tmp_path/'empty').write_bytes(b'')
    (tmp_path/'page').write_bytes(b'<html>')
    for name in 'cut', 'pickle', 'empty', 'page':
        with pytest.raises(ValueError, match=f'{name}: not a safetensors file, or damaged'):
            load_weights(model, tmp_path/name)
    for options in dict(widths=(8, 16, 32)), dict(sa=True), dict(n_out=3), dict(c_in=3):
        other = save_weights(small_xresnet(**options), tmp_path/'other')
        with pytest.raises(ValueError, match='weights of another model'):
            load_weights(model, other)
    with pytest.raises(FileNotFoundError):
        load_weights(model, tmp_path/'nowhere')
    assert not (tmp_path/'went off').exists()
    assert all((v == before[k]).all() for k, v in model.state_dict().items())

def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = save_weights(small_xresnet(), tmp_path/'w.safetensors', size=1)
    old = path.read_bytes()
    with pytest.raises(TypeError):
        save_weights(small_xresnet(), path, thing=object())
    assert path.read_bytes() == old
    assert [f.name for f in tmp_path.iterdir()] == ['w.safetensors']

# threshold and temperature

scores = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=60)
scores = scores.filter(lambda cases: any(y for y, _ in cases))

@given(scores, st.floats(.01, 1))
@settings(deadline=None)
def test_threshold_is_the_highest_that_does(cases, wanted):
    y, p = np.array([c[0] for c in cases]), np.array([c[1]/20 for c in cases])
    found = threshold_for_sensitivity(y, p, wanted)
    enough = [t for t in np.unique(p) if (p[y] >= t).mean() >= wanted - 1e-9]
    assert found == max(enough)

def test_threshold_beside_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.random(500) < .3
    p = rng.normal(y, 1)
    _, tpr, thresholds = roc_curve(y, p, drop_intermediate=False)
    for wanted in .5, .9, 1:
        highest = thresholds[np.argmax(tpr >= wanted - 1e-9)]
        assert threshold_for_sensitivity(y, p, wanted) == highest

def test_threshold_refuses():
    with pytest.raises(ValueError, match='no positives'):
        threshold_for_sensitivity([0, 0], [.1, .2])
    for wanted in 0, 1.1, -1, float('nan'):
        with pytest.raises(ValueError, match='wanted'):
            threshold_for_sensitivity([0, 1], [.1, .2], wanted)

def test_threshold_refuses_what_is_no_answer():
    "A 2 in the truth is neither sick nor well, and nan is no score"
    for y in [0, 2, 1], [0, -1, 1], [0, .5, 1], [0, np.nan, 1]:
        with pytest.raises(ValueError, match='0 or 1'):
            threshold_for_sensitivity(y, [.1, .2, .3])
    with pytest.raises(ValueError, match='nan'):
        threshold_for_sensitivity([0, 1], [.1, np.nan])
    for y, p in ([0, 1], [.1, .2, .3]), ([[0], [1]], [.1, .2]), ([[0, 1]], [[.1, .2]]):
        with pytest.raises(ValueError, match='one score for each case'):
            threshold_for_sensitivity(y, p)

@pytest.mark.parametrize('true', [.3, 1, 2.5])
def test_temperature_is_found(true):
    "Labels drawn with logits/T: that T comes back, and PyTorch's own optimiser agrees"
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=rng)*3
    y = torch.multinomial((logits/true).softmax(1), 1, generator=rng)[:, 0]
    found = fit_temperature(logits, y)
    log_t = torch.zeros(1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn='strong_wolfe')
    def loss():
        optimizer.zero_grad()
        out = torch.nn.functional.cross_entropy(logits.double()/log_t.exp(), y)
        out.backward()
        return out
    optimizer.step(loss)
    assert found == pytest.approx(log_t.exp().item(), rel=1e-3)
    assert found == pytest.approx(true, rel=.05)

def test_no_temperature():
    logits = torch.tensor([[2., -2], [-2, 2], [1, 0]])
    with pytest.raises(ValueError, match='no case is wrong'):
        fit_temperature(logits, [0, 1, 0])
    with pytest.raises(ValueError, match='no better than chance'):
        fit_temperature(logits, [1, 0, 0])

@pytest.mark.parametrize('y,said', [
    ([0, 1, 2], 'label 2.* 2 classes'), ([0, 1, -1], 'label -1.* 2 classes'),
    ([0, 1, -100], 'label -100'), ([0, 1, .5], 'whole.*0.5'), ([0, 1, np.nan], 'whole.*nan'),
    ([0, 1], 'do not fit'), ([[0], [1], [1]], 'do not fit')])
def test_temperature_refuses_labels_that_are_no_class(y, said):
    with pytest.raises(ValueError, match=said):
        fit_temperature(torch.tensor([[2., -2], [-2, 2], [1, 0]]), y)

def test_temperature_refuses_logits_that_are_none():
    for odd in np.nan, np.inf:
        with pytest.raises(ValueError, match='finite'):
            fit_temperature([[2., odd], [0, 1]], [0, 1])
    for wrong in [2., 1], np.zeros((0, 2)):
        with pytest.raises(ValueError, match='cases, classes'):
            fit_temperature(wrong, [0, 1])

def test_temperature_of_other_types():
    "As of int64 labels and float32 logits"
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float16)
    y = np.where(rng.random(200) < .7, logits.argmax(1), rng.integers(0, 3, 200))
    wanted = fit_temperature(logits.astype(np.float32), y)
    for labels in y.astype(np.uint8), y.astype(float), y.tolist(), torch.tensor(y).short():
        assert fit_temperature(logits, labels) == pytest.approx(wanted)

# a real radiograph

@pytest.fixture
def real(tmp_path):
    """A set of phantoms to learn from, and the real radiograph twice to be tested on:
    as it came, and as a true MONOCHROME1 twin, stored the other way round"""
    folder = os.environ.get('MEDTUT_REAL_FILES')
    found = sorted(Path(folder, 'siim').glob('1.*.dcm')) if folder else []
    if not found:
        pytest.skip('MEDTUT_REAL_FILES does not name a folder with a SIIM radiograph in siim/')
    write_siim_small(tmp_path, seed=1, n=12, size=64, prevalence=.5, repeat_p=0, progress=False)
    shutil.copy(found[0], tmp_path/'real.dcm')
    ds = pydicom.dcmread(found[0])
    ds.PhotometricInterpretation, ds.PixelData = 'MONOCHROME1', (255 - ds.pixel_array).tobytes()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds['PixelData'].is_undefined_length = False
    ds.save_as(tmp_path/'twin.dcm')
    table = read_labels(tmp_path).assign(split=['train']*8 + ['valid']*4)
    for name in 'real.dcm', 'twin.dcm':
        table.loc[len(table)] = dict(
            file=name, label='No Pneumothorax', patient='real', split='test')
    return tmp_path, table

def test_real_radiograph_looks_right(real):
    "Bright spine and belly, dark lungs and dark air beside the arms; the twin gives the same picture"
    folder, table = real
    one, two = (array(PILRadiograph.create(folder/f)) for f in ('real.dcm', 'twin.dcm'))
    assert one.shape == (1024, 1024)
    assert (one == two).all()
    spine, belly = one[500:700, 480:600].mean(), one[900:1000, 300:500].mean()
    right_lung, left_lung = one[300:500, 200:400].mean(), one[300:500, 680:800].mean()
    assert min(spine, belly) > max(right_lung, left_lung) + 50
    assert one[:40, :40].mean() < 40

def test_a_changed_tag_changes_the_picture(real):
    """The file `Fake_MONOHR1` has the same pixels under the other tag:
    it asks to be shown as the negative, and is"""
    fake = Path(os.environ['MEDTUT_REAL_FILES'], 'siim', 'Fake_MONOHR1.dcm')
    if not fake.exists():
        pytest.skip('no siim/Fake_MONOHR1.dcm among the real files')
    film, negative = (array(PILRadiograph.create(f)) for f in (real[0]/'real.dcm', fake))
    assert np.abs(film + negative - 255).max() <= 1

def test_real_radiograph_through_the_whole_pipeline(real, tmp_path):
    folder, table = real
    dls = chest_dataloaders(folder, table=table, size=128, bs=4)
    x, _ = dls[2].one_batch()
    assert x.shape == (2, 1, 128, 128)
    assert (x[0] == x[1]).all()
    learn = Learner(dls, small_xresnet(widths=(8, 16)), path=tmp_path,
                    loss_func=CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
        answers = [learn.predict(folder/f)[2] for f in ('real.dcm', 'twin.dcm')]
        batch = learn.get_preds(ds_idx=2)[0]
        learn.tta(ds_idx=2, n=2)
        learn.show_results(ds_idx=2)
        dls.show_batch()
    assert torch.allclose(answers[0], batch[0], atol=1e-5)
    assert torch.equal(*answers)

def test_fewer_films_than_a_batch_are_one_batch(tmp_path):
    "fastai leaves out a batch that is not full: before, an epoch had none and taught nothing"
    write_siim_small(tmp_path, n=20, size=64, repeat_p=0, progress=False)
    dls = chest_dataloaders(tmp_path, size=64)
    assert len(dls.train) == 1
    table = read_labels(tmp_path).assign(split='valid')
    with pytest.raises(ValueError, match='none of 20 films'):
        chest_dataloaders(tmp_path, table=table)
