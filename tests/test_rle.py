"The run-length code on real tables, which the repository does not carry."
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damage import FUZZ

from medtut.rle import rle_decode, rle_encode


@pytest.mark.parametrize('code, message', [
    (float('nan'), 'empty cell'), (np.float64('nan'), 'empty cell'),
    (np.float32('nan'), 'empty cell'),
    (None, 'empty cell'), (pd.NA, 'empty cell'), (pd.NaT, 'empty cell'),
    ('', "written '-1'"), ('  ', "written '-1'"),
    (5, 'text'), (0, 'text'), (2., 'text'), (-2, 'text'), (np.int64(7), 'text'), (True, 'text'),
    (b'0 2', 'text'), ({'0 2': 1}, 'text'), (np.array('0 2'), 'text'),
    ('5 2 2', '3 numbers'), ('5', '1 number;'), ('0 2 -1', '3 numbers'), ('-01', '1 number;'),
    ('-1 2', 'below 0'), ('5 -2', 'below 1'), ('5 0', 'below 1'), ('-1 -1', 'below'),
    ('0 2 -1 2', 'below 0'),
    ('0 17', '4 x 4 has 16'), ('16 1', '4 x 4 has 16'),
    ('0 2 99999999999999999999 1', '4 x 4 has 16'),
    ('1 2.0', 'whole numbers'), ('nan', 'whole numbers'), ('1,2', 'whole numbers'),
    ('1_0 2', 'whole numbers'), ('٣ 2', 'whole numbers'),
    ('0 ' + '9'*5000, 'whole numbers|has 16')])
def test_codes_that_are_no_code(code, message):
    """Alone, in a list, beside one that is a code: pandas reads an empty EncodedPixels as nan,
    and a column of -1 alone as numbers"""
    array, series = np.array([code, '0 2'], object), pd.Series(['0 2', code], dtype=object)
    for wrong in (code, [code], ['0 2', code], (code,), array, series):
        with pytest.raises(ValueError, match=message):
            rle_decode(wrong, (4, 4))

def test_a_wrong_code_of_several_is_named():
    with pytest.raises(ValueError, match='code 2 of 3'):
        rle_decode(['0 2', float('nan'), '4 1'], (4, 4))

@pytest.mark.parametrize('code', [
    '-1', ' -1', -1, -1., np.int64(-1), np.float64(-1), ['-1'], [-1], [], ['-1', -1]])
def test_no_mask(code):
    "As text or as the number that pandas makes of it where all rows of a table say so"
    mask = rle_decode(code, (3, 5))
    assert mask.shape == (3, 5)
    assert mask.dtype == bool
    assert not mask.any()

def test_a_table_as_pandas_reads_it(tmp_path):
    "From a file: an image without a mask beside one, a table of nothing else, and an empty cell"
    path = tmp_path/'rle.csv'
    for rows, pixels in (('a, -1\nb,0 3\n', [0, 3]), ('a, -1\nb, -1\n', [0, 0])):
        path.write_text('ImageId, EncodedPixels\n' + rows)
        table = pd.read_csv(path, skipinitialspace=True)
        assert [int(rle_decode(code, (4, 4)).sum()) for code in table.EncodedPixels] == pixels
    path.write_text('ImageId, EncodedPixels\na,\nb,0 3\n')
    table = pd.read_csv(path, skipinitialspace=True)
    with pytest.raises(ValueError, match='empty cell'):
        rle_decode(table.EncodedPixels[0], (4, 4))

@pytest.mark.parametrize('shape', [
    (4,), (4, 4, 1), 4, (0, 4), (-4, 4), (4., 4), (4.5, 4), (None, 4)])
def test_a_shape_that_is_none(shape):
    with pytest.raises(ValueError, match='rows, columns'):
        rle_decode('0 2', shape)

SIZE = (1024, 1024) # of every SIIM radiograph

def _xrayvision_table():
    """The table inside torchxrayvision's wheel, found without importing it:
    its import needs a full torch stack"""
    spec = find_spec('torchxrayvision')
    if spec is None:
        pytest.skip('torchxrayvision is not installed: pip install --no-deps torchxrayvision')
    found = sorted(Path(spec.origin).parent.rglob('*train-rle*'))
    if not found: pytest.skip('this torchxrayvision carries no train-rle table')
    return pd.read_csv(found[0], skipinitialspace=True)

def _there_and_back(codes):
    for code in codes:
        assert rle_encode(rle_decode(code, SIZE)).split() == code.split()

def test_rows_of_the_real_table():
    "Every fifth mask, and with `make fuzz` each of them"
    table = _xrayvision_table()
    assert len(table) == 12_954
    assert table.ImageId.nunique() == 12_047
    positive = table[table.EncodedPixels.str.strip() != '-1']
    assert positive.ImageId.nunique() == 2_669
    # three quarters of the rows say that there is no mask, all with the same text
    step = 5 if FUZZ == 1 else 1
    _there_and_back(table.EncodedPixels.unique()[::step])

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
    if not folder or not path.exists():
        pytest.skip('MEDTUT_REAL_FILES names no folder with siim/train-rle_excerpt.csv')
    table = pd.read_csv(path, skipinitialspace=True)
    assert len(table) == 9
    _there_and_back(table.EncodedPixels)

@pytest.mark.parametrize('mask, says', [
    (np.zeros((2, 2, 2)), r'two axes \(rows, columns\), not the shape \(2, 2, 2\)'),
    ([[0, 1], [2, 0]], '0 and one other value, not 3 values')])
def test_what_is_no_mask_is_refused(mask, says):
    with pytest.raises(ValueError, match=says):
        rle_encode(mask)
