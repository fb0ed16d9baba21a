"""Own films: every format ends in a picture or a message, every fault of a table in one sentence
that names its rows"""
import os
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.vision.all import CrossEntropyLossFlat, Learner
from PIL import Image
from pydicom.data import get_testdata_file

from medtut.chest import PILRadiograph, small_xresnet
from medtut.curves import plot_reliability, plot_roc, reliability, roc_curve
from medtut.dicom import read_dicom
from medtut.display import to_display
from medtut.film_models import (
    RunLog,
    film_dataloaders,
    load_film_model,
    predict_films,
    prepare_film,
    save_film_model,
)
from medtut.film_tables import FilmTableError, read_film_table
from medtut.films import is_picture, read_film
from medtut.phantoms.chest import chest
from medtut.phantoms.chest_files import to_dicom

GREY = np.arange(48*40).reshape(48, 40) % 256


# --- one film

def image_of(kind):
    eight = Image.fromarray(GREY.astype(np.uint8))
    if kind == '16 bits': return Image.fromarray((GREY*257).astype(np.uint16))
    if kind == 'opaque': return eight.convert('RGBA')
    if kind == 'grey with alpha': return eight.convert('LA')
    return eight.convert(kind)

def test_a_dicom_file_that_begins_as_a_tiff_does():
    "Its preamble is that of a TIFF, as PS3.10, 7.1 allows; 'DICM' behind it says what it is"
    path = get_testdata_file('CT_small.dcm', download=False)
    assert Path(path).read_bytes()[:2] == b'II' and not is_picture(path)
    assert (read_film(path).grey == to_display(read_dicom(path))).all()

@pytest.mark.parametrize('kind', ['L', 'P', 'RGB', 'opaque', 'grey with alpha', '16 bits'])
def test_png(tmp_path, kind):
    path = tmp_path/'film.png'
    image_of(kind).save(path)
    film = read_film(path)
    assert film.grey.dtype == np.uint8
    assert film.note == ''
    assert np.abs(film.grey.astype(int) - GREY).max() <= 1

@pytest.mark.parametrize('ending', ['tif', 'bmp', 'png', 'dat'])
def test_known_by_content(tmp_path, ending):
    path = tmp_path/f'film.{ending}'
    image_of('L').save(path, 'TIFF' if ending == 'tif' else 'BMP' if ending == 'bmp' else 'PNG')
    assert is_picture(path)
    assert np.array_equal(read_film(path).grey, GREY)

def test_jpeg_lies_as_its_file_says(tmp_path):
    path = tmp_path/'film.jpg'
    exif = Image.Exif()
    exif[0x112] = 6 # to be turned by 90 degrees
    image_of('L').save(path, exif=exif)
    assert read_film(path).grey.shape == GREY.T.shape

def test_twelve_bits_in_sixteen(tmp_path):
    path = tmp_path/'film.png'
    Image.fromarray((GREY*16).astype(np.uint16)).save(path)
    with pytest.raises(ValueError, match='film.png.*4080.*white=4095'): read_film(path)
    assert np.abs(read_film(path, white=4095).grey.astype(int) - GREY).max() <= 1

def write_png16(path, x, colour_type):
    "A PNG of 16 bits a channel, by its specification (w3.org/TR/png): Pillow does not write them"
    rows, columns = x.shape[:2]
    lines = b''.join(b'\0' + line.astype('>u2').tobytes() for line in x)
    header = struct.pack('>IIBBBBB', columns, rows, 16, colour_type, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(lines)), (b'IEND', b'')]
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in chunks))

def write_tiff16(path, x, photometric, order='<'):
    "A TIFF of 16 bits by TIFF 6.0; photometric 0: 0 is white, 1: 0 is black"
    data = x.astype(f'{order}u2').tobytes()
    rows, columns = x.shape
    tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1),
            (278, rows), (279, len(data))]
    entries = [struct.pack(f'{order}HHIHH', tag, 3, 1, value, 0) for tag, value in tags]
    start = b'II*\0' if order == '<' else b'MM\0*'
    path.write_bytes(start + struct.pack(f'{order}I', 8 + len(data)) + data
                     + struct.pack(f'{order}H', len(tags)) + b''.join(entries) + bytes(4))

@pytest.mark.parametrize('colour_type', [2, 4], ids=['RGB', 'grey with alpha'])
def test_colours_of_16_bits(tmp_path, colour_type):
    "Pillow keeps the upper 8 bits: of 12 bits in 16, as grey PNG have them, nearly nothing"
    path = tmp_path/'film.png'
    def write(factor):
        grey = GREY*factor
        alpha = np.full_like(grey, 65535)
        write_png16(path, np.stack([grey]*3 if colour_type == 2 else [grey, alpha], -1), colour_type)
    write(16)
    with pytest.raises(ValueError, match='film.png: 16 bits a colour'): read_film(path)
    write(257)
    assert np.array_equal(read_film(path).grey, GREY)
    with pytest.raises(ValueError, match='film.png: 16 bits a colour'): read_film(path, white=4095)

@pytest.mark.parametrize('photometric, order', [(1, '<'), (0, '<'), (1, '>')])
def test_tiff_of_16_bits(tmp_path, photometric, order):
    "Dark and light are what the file says, in either order of bytes"
    path = tmp_path/'film.tif'
    write_tiff16(path, GREY*257, photometric, order)
    assert np.array_equal(read_film(path).grey, GREY if photometric else 255 - GREY)

def test_one_white_does_not_fit_films_of_two_kinds(tmp_path):
    path = tmp_path/'film.png'
    image_of('16 bits').save(path)
    with pytest.raises(ValueError, match='film.png: 65535 is its highest.*white=4095'):
        read_film(path, white=4095)
    for white in 0, -1, np.inf, np.nan:
        with pytest.raises(ValueError, match='white must be'): read_film(path, white)

def test_real_numbers_with_gaps(tmp_path):
    grey = GREY.astype(np.float32)
    grey[0, 0] = np.nan
    Image.fromarray(grey).save(tmp_path/'film.tif')
    with pytest.raises(ValueError, match='film.tif: some values are nan'):
        read_film(tmp_path/'film.tif', white=255)

def test_a_folder_is_no_film(tmp_path):
    with pytest.raises(ValueError, match='a folder'): read_film(tmp_path)

def test_print_colours(tmp_path):
    "CMYK, as a scanner for print writes it"
    image_of('RGB').convert('CMYK').save(tmp_path/'film.tif')
    film = read_film(tmp_path/'film.tif')
    assert film.note == ''
    assert np.abs(film.grey.astype(int) - GREY).max() <= 1
@pytest.mark.parametrize('letters, upright', [
    (['L', 'F'], lambda x: x), (['R', 'F'], np.fliplr), (['L', 'H'], np.flipud),
    (['F', 'L'], np.transpose), ('', lambda x: x)])
def test_dicom_lies_as_its_file_says(tmp_path, letters, upright):
    "PS3.3 C.7.6.1.1.1: where rows and columns run to; shown with the patient's right on the left"
    ds = read_dicom(get_testdata_file('CT_small.dcm', download=False))
    del ds.ImageOrientationPatient
    ds.Modality, ds.PatientOrientation = 'DX', letters
    values = np.arange(48*40, dtype=np.int16).reshape(48, 40)
    ds.Rows, ds.Columns = values.shape
    ds.PixelData = values.tobytes()
    ds.save_as(tmp_path/'film.dcm', enforce_file_format=True)
    stored = to_display(read_dicom(tmp_path/'film.dcm'))
    assert np.array_equal(read_film(tmp_path/'film.dcm').grey, upright(stored))

@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_dicom_that_is_dark_where_it_says_so(tmp_path, photometric):
    ds = read_dicom(get_testdata_file('CT_small.dcm', download=False))
    values = np.zeros((ds.Rows, ds.Columns), np.int16)
    values[:ds.Rows//2] = 1000
    ds.PixelData, ds.PhotometricInterpretation = values.tobytes(), photometric
    ds.save_as(tmp_path/'film.dcm', enforce_file_format=True)
    upper, lower = read_film(tmp_path/'film.dcm').grey[[0, -1], 0]
    assert (upper > lower) == (photometric == 'MONOCHROME2')

def test_whole_and_real_numbers_do_not_say_what_is_white(tmp_path):
    path = tmp_path/'film.tif'
    Image.fromarray(GREY.astype(np.float32)).save(path)
    with pytest.raises(ValueError, match='which value is white'): read_film(path)
    assert np.array_equal(read_film(path, white=255).grey, GREY)

@pytest.mark.parametrize('kind', ['RGBA', 'P', 'LA'])
def test_transparent(tmp_path, kind):
    path = tmp_path/'film.png'
    if kind == 'P': image_of('P').save(path, transparency=0)
    else:
        image = image_of('L').convert(kind)
        image.putalpha(100)
        image.save(path)
    with pytest.raises(ValueError, match='film.png: transparent in places'): read_film(path)

def test_colour_is_noted(tmp_path):
    colours = np.stack([GREY, GREY.T.reshape(GREY.shape), GREY*0], -1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path/'film.png')
    assert read_film(tmp_path/'film.png').note == 'colour'

@pytest.mark.parametrize('content, message', [
    (b'\x89PNG and nothing', 'not a readable picture'), (b'a text', 'a film is a DICOM, PNG'),
    (b'', 'a film is a DICOM, PNG')])
def test_no_film(tmp_path, content, message):
    path = tmp_path/'film.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'film.png.*{message}'): read_film(path)

def test_cut_off(tmp_path):
    path = tmp_path/'film.jpg'
    image_of('L').save(path)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match='film.jpg: not a readable picture'): read_film(path)

def test_several_pictures_in_one(tmp_path):
    path = tmp_path/'films.tif'
    image_of('L').save(path, save_all=True, append_images=[image_of('L')])
    with pytest.raises(ValueError, match='2 pictures in one file'): read_film(path)

def test_dicom_as_before(tmp_path):
    ds = to_dicom(chest(3, True, size=128), 'one')
    ds.save_as(tmp_path/'film', enforce_file_format=True)
    film = np.asarray(PILRadiograph.create(tmp_path/'film'))
    assert np.array_equal(read_film(tmp_path/'film').grey, film)

def test_fastai_image_takes_pictures(tmp_path):
    image_of('16 bits').save(tmp_path/'film.png')
    film = np.asarray(PILRadiograph.create(tmp_path/'film.png'))
    assert np.array_equal(film, read_film(tmp_path/'film.png').grey)


# --- tables

def write_films(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40)).astype(np.uint8)).save(folder/name)

@pytest.fixture
def folder(tmp_path):
    write_films(tmp_path, [f'{i}.png' for i in range(8)])
    return tmp_path

def rows(**changes):
    "A table without a fault, or with some"
    table = pd.DataFrame(dict(file=[f'{i}.png' for i in range(8)],
                              patient=[f'P{i}' for i in range(8)], label=['ill', 'well']*4))
    return table.assign(**changes)

def changed(column, row, value):
    table = rows()
    table.loc[row, column] = value
    return table

def faults(folder, table, **arguments):
    with pytest.raises(FilmTableError) as caught: read_film_table(folder, table, **arguments)
    return caught.value.faults

def test_nothing_to_say(folder):
    films, classes, notes, positive = read_film_table(folder, rows(), positive='ill')
    assert classes == ['well', 'ill']
    assert positive == 'ill'
    assert notes == []
    assert list(films.row) == list(range(2, 10))

FAULTS = [
    (changed('label', 3, ''), 'no label in row 5'),
    (changed('patient', 0, None), 'no patient in row 2'),
    (changed('file', 3, 'gone.png'), 'row 5: gone.png'),
    (changed('patient', 1, 'p0 '), "'P0' and 'p0'"),
    (changed('patient', 1, 'P-00'), "'P-00' and 'P0'"),
    (changed('label', 2, '1'), 'words and as numbers'), (changed('label', 2, 'N/A'), 'in row 4'),
    (rows(label='ill'), 'one class only'),
    (rows(label=[f'{i}.5' for i in range(8)]*1), '1 patient of class'),
    (changed('file', 1, '0.png'), 'rows 2, 3 with different entries')]

@pytest.mark.parametrize('table, message', FAULTS, ids=[message for _, message in FAULTS])
def test_faults(folder, table, message):
    said = faults(folder, table)
    assert any(message in fault for fault in said), said

def test_no_film_of_the_positive_class(folder):
    said = faults(folder, rows(label='well'), positive='ill')
    assert any("one class only, 'well' in 8 rows" in fault for fault in said), said
    assert any("no label 'ill', which is to be the positive one: found 'well'" in fault
               for fault in said), said

def test_a_measurement_is_no_class(folder):
    write_films(folder, [f'more/{i}.png' for i in range(30)])
    table = pd.DataFrame(dict(file=[f'more/{i}.png' for i in range(30)], patient=range(30),
                              label=np.linspace(0, 1, 30)))
    assert '30 different labels' in faults(folder, table)[0]

def test_all_faults_at_once(folder):
    table = rows()
    table.loc[1, 'file'], table.loc[2, 'label'], table.loc[3, 'patient'] = 'gone.png', '1', 'p-0'
    assert len(faults(folder, table)) == 3

def test_what_to_do_about_them(folder):
    table = rows()
    table.loc[1, 'file'], table.loc[2, 'label'], table.loc[3, 'patient'] = 'gone.png', '1', 'p-0'
    kept = read_film_table(folder, table, positive='ill', missing='drop', classes={1: 'ill'},
                           patients={'p-0': 'P0'})
    assert len(kept.films) == 7
    assert any('row 3' in note for note in kept.notes)
    assert any('two classes: P0' in note for note in kept.notes)

def test_similar_ids_may_be_kept_if_not_only_case_differs(folder):
    assert len(read_film_table(folder, changed('patient', 1, 'P-0'), similar='keep').films) == 8
    assert 'differ in type, case' in faults(folder, changed('patient', 1, 'p0'), similar='keep')[0]

@pytest.mark.parametrize('written', [
    'sub/x.PNG', 'sub\\x.png', './sub/x.png', 'x', 'X.png', 'C:\\old\\SUB\\x.png', '/old/sub/x'])
def test_names_that_are_nearly_right(folder, written):
    write_films(folder, ['sub/x.png'])
    kept = read_film_table(folder, changed('file', 0, written))
    assert kept.films.file[0] == 'sub/x.png'

def test_a_file_in_the_folder_of_another_patient_is_another(folder):
    "A folder a patient, and every film has one name"
    write_films(folder, ['P2/image.png'])
    said = faults(folder, changed('file', 0, 'P1/image.png'))
    assert 'P1/image.png (P2/image.png is in another folder)' in said[0]
    dropped = read_film_table(folder, changed('file', 0, 'P1/image.png'), missing='drop')
    assert 'P2/image.png' not in list(dropped.films.file)

def test_a_uid_has_no_ending(folder):
    (folder/'1.png').rename(folder/'1.2.840.7')
    assert 'row 3: 1.2.840' in faults(folder, changed('file', 1, '1.2.840'))[0]
    assert read_film_table(folder, changed('file', 1, '1.2.840.7')).notes == []

def test_accents_stored_in_two_ways(folder):
    "A Mac stores ü as u and two dots"
    write_films(folder, [unicodedata.normalize('NFD', 'Müller.png')])
    name = unicodedata.normalize('NFC', 'Müller')
    assert read_film_table(folder, changed('file', 0, name)).films.file[0].startswith('Mu')

def test_links_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    write_films(elsewhere, ['x.png'])
    os.symlink(elsewhere, folder/'link')
    os.symlink(folder, folder/'round') # for ever, if one went on
    assert read_film_table(folder, changed('file', 0, 'link/x.png')).films.file[0] == 'link/x.png'

def test_no_file_at_all(folder):
    said = faults(folder, rows(file='gone.png'), missing='drop')
    assert said == [f'none of 8 files lies below {folder}: is it that folder?']

def test_absolute_paths(folder):
    kept = read_film_table(folder, changed('file', 0, str(folder/'0.png')))
    assert kept.films.file[0] == '0.png'
    said = faults(folder, changed('file', 0, '/elsewhere/film.png'))
    assert '/elsewhere/film.png' in said[0]

def test_a_name_of_two_files(folder):
    write_films(folder, ['a/x.png', 'b/x.png'])
    assert 'may be a/x.png; b/x.png' in faults(folder, changed('file', 0, 'x.png'))[0]

def test_copies_of_a_picture(folder):
    (folder/'1.png').write_bytes((folder/'0.png').read_bytes())
    assert 'one picture, byte for byte' in faults(folder, rows())[0]
    same = rows(label=['ill', 'ill', 'well', 'well']*2)
    same.loc[1, 'patient'] = 'P0'
    assert any('it counts twice' in note for note in read_film_table(folder, same).notes)

def test_rows_twice_and_films_without_a_row(folder):
    table = pd.concat([rows().iloc[:7], rows().iloc[:1]])
    kept = read_film_table(folder, table)
    assert len(kept.films) == 7
    assert 'left out: row 9' in kept.notes[-1] or 'left out: row 9' in kept.notes[0]
    assert any('without a row, left out: 7.png' in note for note in kept.notes)

def test_a_row_twice_in_two_parts(folder):
    table = pd.concat([rows(split='train'), rows(split='test').iloc[:1]])
    assert 'different entries (split train; test)' in faults(folder, table, keep=['split'])[0]

def test_several_classes(folder):
    table = rows(label=['a', 'b', 'c', 'a', 'b', 'c', 'a', 'b'])
    kept = read_film_table(folder, table, positive='b')
    assert kept.classes == ['not b', 'b']
    assert "'not b': 'a' in 3 rows; 'c' in 2 rows" in kept.notes[-1]
    assert "2 patients of class 'c'" in faults(folder, table)[0]

NOBODY = 'unknown', 'N/A', '?', 'nan', 'None', 'ANONYMOUS'

@pytest.mark.parametrize('patient, message', [
    *[(name, 'are nobody') for name in NOBODY], ('1.23457E+11', 'cut short'),
    ('1,23E+11', 'cut short'), (1.2345678901234568e20, 'cut short'),
    (1234567890123450., 'cut short')]) # a spreadsheet keeps 15 digits, and this had 16
def test_ids_that_are_no_patient(folder, patient, message):
    "Not one patient, as which they would be split"
    said = faults(folder, rows(patient=[patient]*2 + [f'P{i}' for i in range(6)]))
    assert any(message in fault and 'rows 2, 3' in fault for fault in said), said

def test_punctuation_between_numbers_counts(folder):
    "Centre 1, patient 11, and centre 11, patient 1"
    table = rows(patient=['1-11', '11-1', '111', 'P3', 'P4', 'P5', 'P6', 'P7'])
    assert read_film_table(folder, table).notes == []
    assert "'1-11' and '1/11'" in faults(folder, table.assign(patient=['1/11', *table.patient[:1],
                                                                       *table.patient[2:]]))[0]

def test_a_number_as_text_is_one_patient(folder):
    table = rows(patient=['7', '7.0', '70', 'P3', 'P4', 'P5', 'P6', 'P7'])
    assert "1 patient perhaps in two spellings: '7' and '7.0'" in faults(folder, table)[0]

def test_labels_in_two_spellings(folder):
    "Case, spaces and a decimal comma; `positive` in either spelling"
    written = ['No finding', 'Ill', 'no\xa0finding', 'ill ', 'no  finding', 'ill', 'no finding', 'ill']
    kept = read_film_table(folder, rows(label=written), positive='ILL')
    assert kept.films.label.nunique() == 2
    assert kept.classes[-1].casefold() == 'ill'
    commas = rows(label=['1', '0', '1,0', '0,0', '1.0', '0', '1', '0'])
    assert sorted(read_film_table(folder, commas).classes) == ['0', '1']

def test_dates_are_worth_a_look(folder):
    table = rows(label=pd.to_datetime(['2024-01-02', '2024-01-03']*4))
    assert any('labels that look like dates' in n for n in read_film_table(folder, table).notes)
    said = read_film_table(folder, changed('patient', 0, '3. Dez')).notes
    assert any('patients that look like dates, 3. Dez in row 2' in note for note in said)
    assert read_film_table(folder, rows(), patient='file').notes == []

@pytest.mark.parametrize('kind', ['string[python]', 'category', object])
def test_columns_of_other_kinds(folder, kind):
    labels = pd.Series(['ill', 'well']*4).astype(kind)
    if kind == 'category': labels = labels.cat.add_categories('dead')
    assert read_film_table(folder, rows(label=labels)).classes == ['ill', 'well']
    missing = rows(label=pd.Series([None, *['well', 'ill']*3, 'ill'], dtype='object').astype(kind))
    assert 'no label in row 2' in faults(folder, missing)[0]

def test_one_column_for_two_things_and_two_of_one_name(folder):
    each_alone = read_film_table(folder, rows(), patient='file')
    assert list(each_alone.films.patient) == list(each_alone.films.file)
    with pytest.raises(ValueError, match=r"more than one column \['label'\]"):
        read_film_table(folder, pd.concat([rows(), rows().label], axis=1))
    table = folder/'table.csv'
    table.write_text('file,patient,label,label\n0.png,P0,ill,well\n')
    with pytest.raises(ValueError, match=r"more than one column \['label'\]"):
        read_film_table(folder, table)
    with pytest.raises(ValueError, match='keep holds .label.'):
        read_film_table(folder, rows(finding='x'), label='finding', keep=['label'])

def test_rows_longer_than_the_header(folder):
    "No column moves to another name"
    table = folder/'table.csv'
    for line in '0.png;P0;ill;', '0.png;P0;ill;left':
        table.write_text(f'file;patient;label\n{line}\n')
        with pytest.raises(ValueError, match='Expected 3 fields in line 2, saw 4'):
            read_film_table(folder, table)

def test_columns_named_in_other_scripts(folder):
    table = rows().set_axis(['файл', 'больной', 'диагноз'], axis=1)
    table.to_csv(folder/'table.csv', index=False)
    kept = read_film_table(folder, folder/'table.csv', file='Файл', patient='больной',
                           label='диагноз')
    assert kept.classes == ['ill', 'well']

def test_a_message_is_not_endless(folder):
    "20 faults are printed; those beyond stand in `faults`; no fault lists all"
    write_films(folder, [f'more/{i}.png' for i in range(30)])
    names = [f'more/{i}.png' for i in range(30)]
    table = pd.DataFrame(dict(file=names*100, patient=[f'P{i}' for i in range(3000)], label='ill'))
    with pytest.raises(FilmTableError) as caught: read_film_table(folder, table)
    assert len(caught.value.faults) == 31
    assert len(str(caught.value).splitlines()) == 22
    assert str(caught.value).endswith('and 11 more, which `faults` of this error holds')
    assert max(map(len, caught.value.faults)) < 400
    with pytest.raises(ValueError, match='and 95 more') as caught:
        read_film_table(folder, rows(), classes={f'L{i}': 'x' for i in range(100)})
    assert len(str(caught.value)) < 200

@pytest.mark.parametrize('write', [
    lambda t, p: t.to_csv(p, index=False), lambda t, p: t.to_csv(p, index=False, sep=';'),
    lambda t, p: t.to_csv(p, index=False, sep=';', encoding='utf-8-sig'),
    lambda t, p: t.to_csv(p, index=False, sep='\t', encoding='utf-16')])
def test_csv_of_any_kind(folder, write):
    write(rows(label=['None', 'ill']*4), folder/'table.csv')
    kept = read_film_table(folder, folder/'table.csv', file='File', patient='PATIENT',
                           label='Label', positive='ill')
    assert kept.classes == ['None', 'ill']

@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux holds a process to its memory')
def test_xlsx_where_memory_is_limited(folder):
    "A process may not raise its hard limit: it reads within that one"
    rows(patient=range(8), label=[0, 1]*4).to_excel(folder/'table.xlsx', index=False)
    code = ('import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); '
            'from medtut.tables import read_table; print(len(read_table(sys.argv[1], ["patient"])))')
    command = [sys.executable, '-c', code, folder/'table.xlsx']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == '8', done.stderr

def test_xlsx(folder):
    rows(patient=range(8), label=[0, 1]*4).to_excel(folder/'table.xlsx', index=False)
    kept = read_film_table(folder, folder/'table.xlsx', positive=1)
    assert kept.classes == ['0', '1']
    assert list(kept.films.patient) == list('01234567')

@pytest.mark.parametrize('arguments, message', [
    (dict(patient='who'), "no column"), (dict(positive='dead'), "no label 'dead'"),
    (dict(similar='yes'), 'similar must be'), (dict(missing='yes'), 'missing must be'),
    (dict(classes={'dead': 'ill'}), 'does not say')])
def test_arguments(folder, arguments, message):
    rows().to_csv(folder/'table.csv', index=False)
    with pytest.raises(ValueError, match=message):
        read_film_table(folder, folder/'table.csv', **arguments)

def test_table_in_another_encoding(folder):
    (folder/'table.csv').write_bytes('file,patient,label\n0.png,Müller,ill'.encode('cp1252'))
    with pytest.raises(ValueError, match='table.csv: not a readable .csv table in UTF-8.*save it as'):
        read_film_table(folder, folder/'table.csv')


# --- batches, models, answers

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('films')
    names = [f'{i}.png' for i in range(24)]
    write_films(folder, names)
    Image.fromarray(np.zeros((30, 60), np.uint8)).save(folder/'0.png')
    table = pd.DataFrame(dict(file=names, patient=[f'P{i}' for i in range(24)],
                              label=['ill', 'well', 'well']*8))
    dls = film_dataloaders(folder, read_film_table(folder, table, positive='ill'), size=32,
                           augment=False, device='cpu')
    torch.manual_seed(0)
    learn = Learner(dls, small_xresnet(2, widths=(4, 8)), CrossEntropyLossFlat())
    return folder, learn

def test_training_and_prediction_prepare_alike(trained):
    folder, learn = trained
    for part in range(1, 3):
        x, y = learn.dls[part].one_batch()
        items = learn.dls[part].items
        for film, label, row in zip(x, y, items.itertuples()):
            alone = prepare_film(folder/row.file, learn.dls.film_settings)
            assert torch.allclose(film.as_subclass(torch.Tensor), alone, atol=1e-6)
            assert learn.dls.vocab[label] == row.label

def test_answers_of_a_file_are_those_of_training(trained, tmp_path):
    folder, learn = trained
    path = save_film_model(learn, tmp_path/'m.safetensors', dict(widths=(4, 8)), threshold=.4)
    loaded = load_film_model(path)
    with learn.no_bar(): p, _ = learn.get_preds(dl=learn.dls[2])
    answers = predict_films(loaded, [folder/name for name in learn.dls[2].items.file])
    assert np.allclose(answers.ill, p[:, 1], atol=1e-5)
    assert list(answers.called) == list(answers.ill >= .4)
    assert loaded.card['classes'] == ['well', 'ill']
    assert sum(part['films'] for part in loaded.card['counts'].values()) == 24

def test_a_file_without_an_answer(trained, tmp_path):
    folder, learn = trained
    path = save_film_model(learn, tmp_path/'m.safetensors', dict(widths=(4, 8)))
    answers = predict_films(load_film_model(path), [tmp_path/'none.png', folder/'1.png'])
    assert 'none.png' in answers.error[0]
    assert np.isnan(answers.ill[0])
    assert answers.error[1] == ''
    assert abs(answers.ill[1] + answers.well[1] - 1) < 1e-6

def test_unequal_sizes_are_noted(trained):
    assert any('2 sizes' in note for note in trained[1].dls.notes)

@pytest.mark.parametrize('facts, message', [
    (dict(size='24 films'), 'size is on the card already'), (dict(threshold=94), 'a probability')])
def test_facts_do_not_hide_what_prediction_needs(trained, tmp_path, facts, message):
    with pytest.raises(ValueError, match=message):
        save_film_model(trained[1], tmp_path/'m.safetensors', dict(widths=(4, 8)), **facts)

def test_a_threshold_of_no_class(folder, tmp_path):
    """Without `positive` the classes stand in the order of the alphabet, and nobody said that the
    last of them, here 'well', is what the threshold calls"""
    split = ['train', 'train', 'valid', 'valid', 'test', 'test', 'train', 'train']
    table = read_film_table(folder, rows(split=split), keep=['split'])
    dls = film_dataloaders(folder, table, size=32, device='cpu')
    learn = Learner(dls, small_xresnet(2, widths=(4, 8)), CrossEntropyLossFlat())
    path, arguments = tmp_path/'m.safetensors', dict(widths=(4, 8))
    with pytest.raises(ValueError, match=r"threshold of 0\.4 .*None.*'ill', 'well'.*positive="):
        save_film_model(learn, path, arguments, threshold=.4)
    assert not path.exists()
    loaded = load_film_model(save_film_model(learn, path, arguments))
    assert loaded.card['positive'] is None
    assert list(predict_films(loaded, folder/'1.png').called) == [None]

def test_a_card_with_a_threshold_of_no_class(trained, tmp_path):
    from medtut.weights import save_weights
    card = load_film_model(save_film_model(
        trained[1], tmp_path/'m.safetensors', dict(widths=(4, 8)), threshold=.4)).card
    assert card['positive'] == 'ill'
    facts = {name: value for name, value in card.items() if name in (
        'kind', 'classes', 'size', 'mean', 'std', 'white', 'arguments', 'threshold', 'temperature')}
    path = save_weights(trained[1].model, tmp_path/'n.safetensors', **facts, positive='effusion')
    with pytest.raises(ValueError, match="n.safetensors: .*'effusion'.*'well', 'ill'.*save_film_model"):
        load_film_model(path)

def test_a_card_of_another_network(tmp_path):
    from medtut.weights import save_weights
    card = dict.fromkeys(['positive', 'size', 'mean', 'std', 'white', 'threshold', 'temperature'])
    path = save_weights(torch.nn.Linear(1, 1), tmp_path/'m.safetensors', kind='films', **card,
                        use='a test', classes=['a', 'b'], arguments=dict(depth=50))
    with pytest.raises(ValueError, match='m.safetensors: its card makes no network.*depth'):
        load_film_model(path)

def test_another_network_is_not_saved(trained, tmp_path):
    with pytest.raises(ValueError, match='is another network'):
        save_film_model(trained[1], tmp_path/'m.safetensors', dict(widths=(4, 4)))
    assert not list(tmp_path.iterdir())

def test_another_activation_is_another_network(trained, tmp_path):
    "It has no weights, so that names and shapes are the same"
    model = small_xresnet(2, widths=(4, 8), act_cls=torch.nn.Mish)
    learn = Learner(trained[1].dls, model, CrossEntropyLossFlat())
    with pytest.raises(ValueError, match='is another network'):
        save_film_model(learn, tmp_path/'m.safetensors', dict(widths=(4, 8)))
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize('temperature', [0, -1, float('nan')])
def test_a_temperature_is_above_0(trained, tmp_path, temperature):
    with pytest.raises(ValueError, match='temperature must be above 0'):
        save_film_model(trained[1], tmp_path/'m.safetensors', dict(widths=(4, 8)),
                        temperature=temperature)

def test_many_files_of_one_name_are_found_by_their_folders(tmp_path):
    """CheXpert has 190,000 files called view1_frontal.jpg, and cells that begin with the name of the
    set; before, each cell was compared with all of them"""
    from medtut.film_files import FolderFiles
    for i in range(40):
        (tmp_path/f'train/p{i}').mkdir(parents=True)
        (tmp_path/f'train/p{i}/view1.PNG').touch()
    (tmp_path/'view1.png').touch()
    files = FolderFiles(tmp_path)
    for i in (3, 30):
        for cell in ('set/train/p{}/view1.png', 'train/p{}/view1.png', 'p{}/view1.png', 'p{}/view1'):
            assert files.find(cell.format(i)) == [f'train/p{i}/view1.PNG']
    # the folder may be the set's own, and the file lie at its top
    assert files.find('p50/view1.png') == files.find('view1') == ['view1.png']
    assert files.find('p3/view2.png') == []
    (tmp_path/'view1.png').unlink()
    files = FolderFiles(tmp_path)
    assert files.find('p50/view1.png') == []
    assert len(files.find('view1.png')) == 40

def test_every_damaged_film_is_named(folder):
    (folder/'1.png').write_bytes(b'\x89PNG')
    (folder/'2.png').write_bytes(b'\xff\xd8\xff')
    table = read_film_table(folder, rows())
    with pytest.raises(FilmTableError) as caught: film_dataloaders(folder, table, size=32)
    assert ['1.png' in caught.value.faults[0], '2.png' in caught.value.faults[1]] == [True]*2

def test_one_film_in_two_formats(folder):
    "Pixels are compared as well: two patients, and it would be in two parts"
    Image.open(folder/'0.png').save(folder/'1.png', compress_level=1)
    assert (folder/'0.png').read_bytes() != (folder/'1.png').read_bytes()
    table = read_film_table(folder, rows())
    with pytest.raises(FilmTableError, match='rows 2, 3 are one picture, pixel for pixel'):
        film_dataloaders(folder, table, size=32)
    split = ['train']*3 + ['valid']*2 + ['test']*2 + ['train']
    one_patient = rows(label=['ill', 'ill', 'well', 'well']*2, split=split,
                       patient=['P0', 'P0', *[f'P{i}' for i in range(2, 8)]])
    table = read_film_table(folder, one_patient, keep=['split'])
    dls = film_dataloaders(folder, table, size=32, device='cpu')
    assert sum('it counts twice' in note for note in dls.notes) == 1

@pytest.mark.parametrize('split', [[None] + ['Train']*7, [np.nan]*8])
def test_parts_by_other_names(folder, split):
    table = read_film_table(folder, rows(split=split), keep=['split'])
    with pytest.raises(ValueError, match='split holds .* in 8 rows'):
        film_dataloaders(folder, table, size=32)

def test_split_of_ones_own(folder):
    split = ['train', 'train', 'valid', 'valid', 'test', 'test', 'train', 'train']
    table = read_film_table(folder, rows(split=split), keep=['split'])
    dls = film_dataloaders(folder, table, size=32, device='cpu')
    assert list(dls[2].items.file) == ['4.png', '5.png']
    halves = rows(split=['train', 'valid', 'test', 'test']*2)
    one_class = read_film_table(folder, halves, keep=['split'])
    with pytest.raises(ValueError, match='no film of class'):
        film_dataloaders(folder, one_class, size=32)

def test_log_goes_to_tensorboard_where_it_is_installed(trained, tmp_path):
    pytest.importorskip('tensorboard')
    learn = trained[1]
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=RunLog(tmp_path/'runs.csv', 'one', tensorboard=tmp_path/'board'))
    assert list((tmp_path/'board'/'one').glob('events*'))

def test_log_says_that_tensorboard_is_missing(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    learn = trained[1]
    missing = pytest.raises(ImportError, match='pip install tensorboard')
    with learn.no_bar(), learn.no_logging(), missing:
        learn.fit(1, cbs=RunLog(tmp_path/'runs.csv', tensorboard=tmp_path))


# --- curves

def test_roc_curve_is_scikit_learns():
    from sklearn.metrics import roc_curve as theirs
    rng = np.random.default_rng(1)
    truth, score = rng.integers(0, 2, 80), rng.integers(0, 9, 80)
    false_alarms, sensitivity, _ = theirs(truth, score, drop_intermediate=False)
    ours = roc_curve(truth, score)
    assert np.allclose(ours.false_alarms, false_alarms)
    assert np.allclose(ours.sensitivity, sensitivity)

def test_reliability_of_true_probabilities():
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    table = reliability(rng.random(4000) < p, p, bins=8)
    within = [row.share.low <= row.given <= row.share.high for row in table.itertuples()]
    assert sum(within) >= 7

def test_reliability_does_not_hang_on_the_order_of_cases():
    "Votes of ten readers: many cases have one probability"
    rng = np.random.default_rng(0)
    p = rng.integers(0, 11, 200)/10
    truth = rng.random(200) < p
    sorted_by_truth = np.argsort(truth, kind='stable')
    table = reliability(truth, p, bins=8)
    again = reliability(truth[sorted_by_truth], p[sorted_by_truth], bins=8)
    assert np.allclose(np.array(table.share.tolist()), np.array(again.share.tolist()))
    assert table.cases.sum() == 200
    one = reliability([0]*5 + [1]*5, [.5]*10)
    assert len(one) == 1
    assert one.share[0].value == .5

def test_patients_of_other_cases_are_refused():
    "More or fewer ids than cases"
    for n in 9, 11:
        with pytest.raises(ValueError, match='10 cases'):
            reliability([0, 1]*5, np.linspace(0, 1, 10), np.arange(n), bins=2)

def test_what_a_picture_says_is_not_endless():
    rng = np.random.default_rng(0)
    truth, score = [0, 1]*100, rng.random(200)
    picture = plot_reliability(truth, {'a': score, 'b': score**2}, bins=100)
    assert len(repr(picture)) < 800
    assert repr(picture).count('and 90 more') == 2
    for draw in plot_roc, plot_reliability:
        with pytest.raises(ValueError, match='6 models in one picture'):
            draw(truth, {str(i): score for i in range(6)})
        with pytest.raises(ValueError, match='0 models'): draw(truth, {})

def test_pictures_say_what_they_show():
    truth, score = [0, 1]*10, np.linspace(0, 1, 20)
    assert 'AUC' in repr(plot_roc(truth, score, title='phantoms'))
    assert 'phantoms' in repr(plot_reliability(truth, score, title='phantoms'))

def test_curves_perfect_scores_keep_a_band():
    picture = plot_roc([0]*6 + [1]*6, range(12), threshold=6)
    band = picture.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].min() < .9
