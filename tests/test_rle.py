"The run-length code on real tables, which the repository does not carry."
from importlib.util import find_spec
from pathlib import Path
import os

import pandas as pd
import pytest

from medtut.rle import rle_decode, rle_encode

SIZE = (1024, 1024) # of every SIIM radiograph

def _xrayvision_table():
    "The table inside torchxrayvision's wheel, found without importing it: its import needs a full torch stack"
    spec = find_spec('torchxrayvision')
    if spec is None: pytest.skip('torchxrayvision is not installed (pip install --no-deps torchxrayvision)')
    found = sorted(Path(spec.origin).parent.rglob('*train-rle*'))
    if not found: pytest.skip('this torchxrayvision carries no train-rle table')
    return pd.read_csv(found[0], skipinitialspace=True)

def _there_and_back(codes):
    for code in codes: assert rle_encode(rle_decode(code, SIZE)).split() == code.split()

def test_every_row_of_the_real_table():
    table = _xrayvision_table()
    assert len(table) == 12_954
    assert table.ImageId.nunique() == 12_047
    positive = table[table.EncodedPixels.str.strip() != '-1']
    assert positive.ImageId.nunique() == 2_669
    _there_and_back(table.EncodedPixels)

def test_rows_of_one_image_are_merged():
    table = _xrayvision_table()
    name = table.ImageId.value_counts().index[0]
    codes = table[table.ImageId == name].EncodedPixels.tolist()
    masks = [rle_decode(c, SIZE) for c in codes]
    merged = rle_decode(codes, SIZE)
    assert len(codes) > 1
    assert all((merged & m).sum() == m.sum() for m in masks)
    assert merged.sum() <= sum(m.sum() for m in masks)

def test_real_excerpt():
    folder = os.environ.get('MEDTUT_REAL_FILES')
    path = Path(folder or '') / 'siim' / 'train-rle_excerpt.csv'
    if not folder or not path.exists(): pytest.skip('MEDTUT_REAL_FILES does not name a folder with siim/train-rle_excerpt.csv')
    table = pd.read_csv(path, skipinitialspace=True)
    assert len(table) == 9
    _there_and_back(table.EncodedPixels)
