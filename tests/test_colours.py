"""Colours that occur together can be told apart by people who lack one kind of cone.

What they see is computed with the matrices of Machado, Oliveira and Fernandes 2009
(doi:10.1109/TVCG.2009.113, severity 1), how far two colours are apart with CIEDE2000
(Sharma, Wu and Dalal 2005, doi:10.1002/col.20070), in which a difference of 1 or 2 can just be
seen side by side."""
import re
from itertools import combinations

import numpy as np
import pytest
from fastcore.nbio import read_nb
from lessons import nbs, notebooks
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from medtut.overlays import class_colors
from medtut.show import OKABE_ITO

CONES = dict(
    all=np.eye(3),
    protanopia=[
        [.152286, 1.052583, -.204868],
        [.114503, .786281, .099216],
        [-.003882, -.048116, 1.051998]],
    deuteranopia=[
        [.367322, .860646, -.227968],
        [.280085, .672501, .047413],
        [-.011820, .042940, .968881]],
    tritanopia=[
        [1.255528, -.076749, -.178779],
        [-.078411, .930809, .147602],
        [.004733, .691367, .303900]])
GREYS = np.repeat(np.linspace(0, 1, 21)[:, None], 3, 1)
each_eye = pytest.mark.parametrize('cones', CONES)

def seen(rgb, cones):
    "sRGB colours (..., 3), 0 to 1, as they appear"
    rgb = np.asarray(rgb, float)
    dark, light = rgb/12.92, ((rgb + .055)/1.055)**2.4
    linear = np.where(rgb <= .04045, dark, light)
    linear = linear @ np.transpose(CONES[cones])
    linear = linear.clip(0, 1)
    dark, light = 12.92*linear, 1.055*linear**(1/2.4) - .055
    return np.where(linear <= .0031308, dark, light)

def apart(a, b, cones):
    a, b = np.broadcast_arrays(a, b)
    return deltaE_ciede2000(rgb2lab(seen(a, cones)), rgb2lab(seen(b, cones)))

def over_greys(color, alpha):
    color = np.array(to_rgb(color))
    return (1 - alpha)*GREYS + alpha*color

def palette_names(code):
    "Names of the palette's colours in `code`"
    names = set()
    for index in re.findall(r'OKABE_ITO\[(.+?)\]', code):
        names |= set(re.findall("'([a-z ]+)'", index)) & set(OKABE_ITO)
    return tuple(sorted(names))

def drawn_together():
    "Names of the palette's colours that one cell of a notebook draws with -> where"
    together = {}
    for path in notebooks():
        for cell in read_nb(path).cells:
            if cell.cell_type != 'code': continue
            names = palette_names(cell.source)
            if len(names) < 2: continue
            together.setdefault(names, f'{path.relative_to(nbs)}, {cell.id}')
    return together

@each_eye
def test_colours_of_one_picture(cones):
    "Lines and points, on white and beside grey ones"
    together = drawn_together()
    changed = 'the way in which notebooks name colours has changed'
    assert ('blue', 'orange') in together, changed
    assert len(together) >= 5, changed
    for names, place in together.items():
        colors = {name: to_rgb(OKABE_ITO[name]) for name in names}
        for a, b in combinations(colors, 2):
            assert apart(colors[a], colors[b], cones) > 12, f'{place}: {a} and {b}'
        for name, color in colors.items():
            assert apart(color, GREYS, cones).min() > 8, f'{place}: {name} and grey'

def classes_apart(names, alpha, cones):
    "Least difference of two classes on one grey, and of a class from any grey under it"
    colors = class_colors(names).values()
    painted = [over_greys(color, alpha) for color in colors]
    between = [apart(a, b, cones).min() for a, b in combinations(painted, 2)]
    from_grey = [apart(p[:, None], GREYS[None], cones).min() for p in painted]
    return min(between, default=np.inf), min(from_grey)

@each_eye
@pytest.mark.parametrize('names', [
    ['edema', 'non-enhancing', 'enhancing'], ['one'], ['one', 'other']], ids=len)
def test_classes_on_an_image(names, cones):
    "Half transparent, as in the lessons, over any grey"
    between, from_grey = classes_apart(names, .4, cones)
    assert between > 8
    assert from_grey > 8

@pytest.mark.xfail(strict=True, reason='the third colour of nameless classes, bluish green, '
    'looks grey on grey to those without green cones')
def test_three_nameless_classes():
    between, from_grey = classes_apart(['one', 'other', 'third'], .6, 'deuteranopia')
    assert between > 8
    assert from_grey > 8

def test_red_and_green_are_not_told_apart():
    "The oracle: a pair that everybody knows to fail"
    red, green = to_rgb('#CC3311'), to_rgb('#7A7A00')
    assert apart(red, green, 'all') > 30
    assert apart(red, green, 'deuteranopia') < 12

def test_grey_stays_grey():
    changes = abs(seen(GREYS, 'tritanopia') - GREYS)
    assert (changes < .01).all()
