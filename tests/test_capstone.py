"""The way of the two capstones on data of other shapes than their examples: a real radiograph with
a table made up for it, and real scans of a hippocampus. They are not in the repository"""
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medtut.cases import check_cases, find_cases
from medtut.film_tables import FilmTableError, read_film_table
from medtut.films import read_film
from medtut.nifti import load_nifti


def real_files(pattern):
    folder = os.environ.get('MEDTUT_REAL_FILES')
    paths = sorted(Path(folder).glob(pattern)) if folder else []
    if not paths: pytest.skip(f'MEDTUT_REAL_FILES does not name a folder with {pattern}')
    return paths

# --- films

ENDINGS = 'png', 'jpg', 'tif', 'bmp'

@pytest.fixture
def films(tmp_path):
    """Twelve people: the radiograph itself, the same file as MONOCHROME1, and parts of it in other
    formats, of which every second one is darkened on one side; and a table with faults"""
    paths = real_files('siim/*.dcm')
    folder = tmp_path/'films'
    folder.mkdir()
    rows = []
    for path in paths[:2]:
        shutil.copy(path, folder)
        rows.append(['well', path.name])
    grey = read_film(paths[0]).grey
    for i in range(len(rows), 12):
        part = grey[20*i:, 30*i:].copy()
        if i % 2: part[:, :len(part)//3] //= 3
        name = f'film {i}.{ENDINGS[i % 4]}'
        Image.fromarray(part).save(folder/name)
        rows.append(['ill' if i % 2 else 'well', name])
    table = pd.DataFrame(rows, columns=['Finding', 'Film'])
    table.insert(0, 'Patient', [f'P-{i:02d}' for i in range(12)])
    return folder, table

def spoiled(table):
    "A patient in two spellings, a label as a number, a row twice, and a file that is gone"
    extra = pd.DataFrame([['p5', 'ill', 'gone.png'], ['P-12', '1', 'film 3.BMP']],
                         columns=table.columns)
    return pd.concat([table, table.iloc[[4]], extra])

def test_a_real_film_goes_all_the_way(films, tmp_path):
    torch = pytest.importorskip('torch')
    from fastai.vision.all import CrossEntropyLossFlat, Learner

    from medtut.chest import small_xresnet
    from medtut.film_models import (
        film_dataloaders,
        load_film_model,
        predict_films,
        save_film_model,
    )
    folder, table = films
    columns = dict(file='film', patient='patient', label='finding', positive='ill')
    spoiled(table).to_csv(tmp_path/'table.csv', sep=';', index=False, encoding='utf-16')
    with pytest.raises(FilmTableError) as caught:
        read_film_table(folder, tmp_path/'table.csv', **columns)
    said = ' '.join(caught.value.faults)
    for words in 'gone.png', 'two spellings', 'words and as numbers', 'film 3.bmp stands in rows':
        assert words in said, said
    table.to_csv(tmp_path/'table.csv', sep=';', index=False, encoding='utf-16')
    films = read_film_table(folder, tmp_path/'table.csv', **columns)
    dls = film_dataloaders(folder, films, size=32, bs=4, fractions=(.4, .3, .3), device='cpu')
    assert any('films of 12 sizes' in note or 'films of 11 sizes' in note for note in dls.notes)
    torch.manual_seed(0)
    learn = Learner(dls, small_xresnet(2, widths=(4, 8)), CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        p = learn.get_preds(dl=dls[2])[0][:, 1].numpy()
    path = save_film_model(learn, tmp_path/'m.safetensors', dict(widths=(4, 8)), threshold=.5)
    answers = predict_films(load_film_model(path), [folder/name for name in dls[2].items.file])
    assert (answers.error == '').all()
    assert np.allclose(answers.ill, p, atol=1e-5)

# --- volumes

def test_real_scans_go_all_the_way(tmp_path):
    "Crops of all sizes, with one voxel type a scan, in a folder as nobody's rules describe it"
    torch = pytest.importorskip('torch')
    from medtut.patches import PatchDataset
    from medtut.predict import load_predictor, predict_file
    from medtut.preprocessing import Preprocessing, prepare, prepare_case
    from medtut.segmentation import dice_ce_loss
    from medtut.tiles import predict_volume
    from medtut.unet import UNet3D, save_unet
    from medtut.volumes import resample
    images = real_files('msd_hippocampus/imagesTr/*.nii.gz')[:4]
    for image in images:
        (tmp_path/'own/scans').mkdir(parents=True, exist_ok=True)
        (tmp_path/'own/outlines').mkdir(exist_ok=True)
        shutil.copy(image, tmp_path/'own/scans')
        mask = image.parent.with_name('labelsTr')/image.name
        shutil.copy(mask, tmp_path/'own/outlines'/image.name.replace('.nii', '_seg.nii'))
    table = find_cases(tmp_path/'own', labels={1: 'anterior', 2: 'posterior'})
    assert len(table) == 4
    assert (check_cases(table).problem == '').all()
    record = Preprocessing(channels=['image'], orientation='RAS', spacing=2, inside=None)
    cases = [prepare_case(row, record) for _, row in table.iterrows()]
    assert cases[0].image.tobytes() == prepare(table.image[0], record).image.tobytes()
    torch.manual_seed(0)
    model = UNet3D(1, 3, filters=(4, 8, 16))
    patches = PatchDataset([(c.image, c.label) for c in cases], (16, 16, 16), n=8, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for x, y in torch.utils.data.DataLoader(patches, 4):
        optimizer.zero_grad()
        dice_ce_loss(model(x), y).backward()
        optimizer.step()
    card = dict(patch=(16, 16, 16), labels={'1': 'anterior', '2': 'posterior'},
                preprocessing=record.on_card())
    path = save_unet(model, tmp_path/'m.safetensors', data='a test', seed=0, scores={}, **card)
    model, settings, _ = load_predictor(path)
    out = predict_file(model, table.image[0], tmp_path/'out.nii.gz', progress=False, **settings)
    p = predict_volume(model, cases[0].image, (16, 16, 16), progress=False)
    p = np.moveaxis(p, 0, -1)
    back = resample(p, cases[0].affine, like=cases[0].grid, fill=None).array
    assert np.array_equal(load_nifti(out, dtype=np.uint8).array, back.argmax(-1))
