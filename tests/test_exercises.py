"""Answers of every kind: right, wrong with the reason that fits, empty, and nonsense"""
import re
import sys
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medtut.answers import Array, Choice, Essay, Function, Mask, Number, Numbers
from medtut.exercises import answer_key, check, exercise, judge, predicted
from medtut.show import Picture

image = np.array([[-3, 0, 4.25], [7, -9, 2]])
square = np.arange(9).reshape(3, 3)
mask = np.zeros((6, 7), bool)
mask[1:4, 2:5] = mask[4, 2] = True

def declare(kind, solution, number='0.0', mistakes=None, why=''):
    exercise(number, kind, mistakes, why)(solution)

def said(kind, solution, answer, **declared):
    "Whether an answer is right, and what is said of it"
    declare(kind, solution, **declared)
    return judge('0.0', answer)

class Tensor:
    "As much of a tensor as is needed, on another device and in a precision that NumPy lacks"
    def __init__(self, values, numpy_has_it=True):
        self.values, self.numpy_has_it = values, numpy_has_it
    # the same in each process: tests are named by it
    def __repr__(self): return f'Tensor({self.values}, {self.numpy_has_it})'
    def detach(self): return self
    def cpu(self): return self
    def float(self): return Tensor(self.values)
    def numpy(self):
        if not self.numpy_has_it: raise TypeError('Got unsupported ScalarType BFloat16')
        return np.asarray(self.values)

kinds = dict(
    number=(Number('HU'), lambda: 40),
    numbers=(Numbers('low', 'high'), lambda: (0, 80)),
    choice=(Choice('lung', 'bone'), lambda: 'bone'),
    array=(Array(), lambda: image),
    mask=(Mask(), lambda: mask),
    function=(Function((2, 3), (0, 1)), lambda a, b: a + b),
    essay=(Essay('a point', 'another'), lambda: 'text'))
each_kind = pytest.mark.parametrize('name', kinds)

@each_kind
@pytest.mark.parametrize('empty', [..., None, '', ' ', '...', [], (..., ...), np.array([])],
                         ids=repr)
def test_empty(name, empty):
    verdict = said(*kinds[name], empty)
    assert verdict.right is None
    assert verdict.reason == 'not answered yet'

@each_kind
@pytest.mark.parametrize('nonsense', [
    object(), {'a': 1}, {1, 2}, b'40', 'forty two', 1j, [[1], [2, 3]], np.array(['a']), sys,
    float('nan'), float('inf'), True, 10**400, '1e999', SimpleNamespace(shape=3), Exception,
    np.datetime64('2020-01-01'), range(3), (x for x in 'ab'), [float('nan')]*3],
    ids=lambda x: type(x).__name__)
def test_nonsense(name, nonsense):
    "Is answered with a sentence, never with an error"
    verdict = said(*kinds[name], nonsense)
    assert verdict.right is not True
    assert len(verdict.reason.split()) > 1
    assert '40' not in verdict.reason or '40' in str(nonsense)

@pytest.mark.parametrize('answer', [
    40, 40., '40', '40 HU', ' 40HU ', '4e1', np.float32(40), np.int8(40), np.array(40),
    np.array([[40]]), [40], Decimal(40), Tensor(40), Tensor([40.], numpy_has_it=False)], ids=repr)
def test_number_is_read(answer):
    assert said(Number('HU'), lambda: 40, answer).right

@pytest.mark.parametrize('unit, solution, answer, reason', [
    ('', .21, 21, 'per cent'), ('%', 21, .21, 'a share'), ('', .21, .79, 'all the others'),
    ('%', 21, 79, 'all the others'), ('', 2.6875, 1/2.6875, 'upside down'),
    ('', 8191, 8192, 'off by one'), ('', 1, 2, 'off by one'), ('', 0, 1, 'off by one'),
    ('HU', -40, 40, 'sign'), ('mm', 12, 12000, '1,000: look at the unit'),
    ('mm', 12.5, 1.25, '10: look at the unit'), ('', 2.6875, 2.7, 'rounded too far'),
    ('', 2.6875, 2, 'cut off'), ('', 3.3, 6.6, 'twice'), ('', 3.3, 1.65, 'half'),
    ('', 3.3, 3.2, 'not close enough'), ('', 3.3, 5, 'too large'), ('', 3.3, 1, 'too small'),
    ('HU', 40, '40 mm', 'the unit is HU'), ('', 40, '40 HU', 'the unit is none'),
    ('', 40, 'forty', 'is none'), ('', 2.7, '2,7', 'decimal point'),
    ('', 40, [40, 80], 'these are 2'), ('', 40, True, 'not True or False'),
    ('', 40, len, 'a function: call it'), ('', 40, np.nan, 'NaN'), ('', 40, np.inf, 'infinite')])
def test_number_reasons(unit, solution, answer, reason):
    verdict = said(Number(unit), lambda: solution, answer)
    assert verdict.right is False
    assert reason in verdict.reason

def test_tolerance():
    rough = Number(rel=.02)
    assert said(rough, lambda: 2.6875, 2.7).right
    assert not said(rough, lambda: 2.6875, 3).right
    assert said(Number('HU', abs=5), lambda: 0, -4).right
    assert said(Number(), lambda: .1 + .2, .3).right
    assert said(Number(), lambda: .21, '21 %').right

@pytest.mark.parametrize('answer, reason', [
    ((80, 0), 'swapped: the order is low, high'), ((0, 81), 'high: off by one'),
    ((0, 8), 'high: too small by a factor of 10'), (80, '2 numbers are asked for (low, high), and this is of type int'),
    ((0, 80, 9), 'these are 3'), ('80', 'these are 1'), ((0, ...), 'low, high'),
    (dict(low=0), 'low, high')])
def test_numbers_reasons(answer, reason):
    assert reason in said(*kinds['numbers'], answer).reason

@pytest.mark.parametrize('answer', [(0, 80), [0, '80'], np.array([0, 80]), dict(low=0, high=80),
                                    Tensor([0, 80]), pd.Series({'a': 0, 'b': 80}), '0, 80', '(0; 80)'],
                         ids=repr)
def test_numbers_are_read(answer):
    assert said(*kinds['numbers'], answer).right

def test_choice():
    assert said(*kinds['choice'], ' Bone.').right
    assert said(*kinds['choice'], 'lung', mistakes={'no air here': 'lung'}).reason == 'no air here'
    assert said(*kinds['choice'], 'lung').reason == "not 'lung'"
    assert "'lung', 'bone'" in said(*kinds['choice'], 'skin').reason

@pytest.mark.parametrize('answer', [image, image.tolist(), image.astype(np.float32), Tensor(image),
                                    Tensor(image, numpy_has_it=False)], ids=lambda x: type(x).__name__)
def test_array_is_read(answer):
    assert said(*kinds['array'], answer).right

@pytest.mark.parametrize('answer, reason', [
    (image.T, 'rows and columns'), (image[::-1], 'upside down'), (image[:, ::-1], 'mirrored'),
    (image[::-1, ::-1], 'half a circle'), (image + 1, 'off by the same'),
    (image*2, 'same factor'), (-image, 'sign'), (image.round(), 'rounded too far'),
    (image + .5*(image == 7), '1 of 6 values are wrong, the first at (1, 0)'),
    (np.where(image < 0, image + 2**16, image), 'read as unsigned'),
    (np.where(image < 0, np.nan, image), 'padding'), (image[:1], 'the shape is (1, 3)'),
    (3, 'one number'), ('three', 'an array of numbers'), ([[1], [2, 3]], 'rows differ in length'),
    (image.astype(str), 'an array of <U')])
def test_array_reasons(answer, reason):
    verdict = said(*kinds['array'], answer)
    assert verdict.right is False
    assert reason in verdict.reason

def test_square_arrays_are_turned_too():
    assert 'rows and columns' in said(Array(), lambda: square, square.T).reason
    assert 'reverse' in said(Array(), lambda: square[0], square[0][::-1]).reason

@pytest.mark.parametrize('answer, reason', [
    (~mask, 'inside out'), (mask[::-1], 'upside down'), (mask.T, 'rows and columns'),
    (np.roll(mask, 1, 0), 'off by one along axis 0'), (mask & False, 'empty'),
    (mask | (np.arange(7) == 6), 'more than that'), (mask & (np.arange(7) < 3), 'missing'),
    (mask*.4, 'choose a threshold'), (mask*3, 'two values'), (mask[:3], 'the shape is')])
def test_mask_reasons(answer, reason):
    verdict = said(*kinds['mask'], answer)
    assert verdict.right is False
    assert reason in verdict.reason

def test_mask_is_read():
    for answer in mask, mask.astype(int), mask.astype(float), mask.tolist(), Tensor(mask):
        assert said(*kinds['mask'], answer).right
    nearly = mask.copy()
    nearly[1, 2] = False
    assert not said(Mask(), lambda: mask, nearly).right
    assert said(Mask(dice=.9), lambda: mask, nearly).right

@pytest.mark.parametrize('answer, reason', [
    (5, 'without calling it'), (lambda a, b: None, '`return`'), (lambda a: a, 'TypeError'),
    (lambda a, b: a/b*0, 'wrong on (2, 3)'), (lambda a, b: 1/a, 'wrong on (2, 3)'),
    (lambda a, b: (a + b)/a, 'wrong on (2, 3)'), (lambda a, b: a + b if a else 1/a, 'fails on (0, 1)')])
def test_function_reasons(answer, reason):
    verdict = said(*kinds['function'], answer)
    assert verdict.right is False
    assert reason in verdict.reason

def test_function_on_arrays():
    "They are copied: a function that changes its arguments spoils no other's"
    def in_place(x):
        x += 1
        return x
    kind = Function((np.zeros(3),), (np.ones(2),))
    assert said(kind, lambda x: x + 1, in_place).right
    assert said(kind, lambda x: x + 1, in_place).right
    assert said(*kinds['function'], np.add).right

def test_essay():
    kind, solution = kinds['essay']
    assert 'more' in said(kind, solution, 'too short').reason
    assert said(kind, solution, 'word '*30) == (None, kind.rubric)
    assert 'sentences' in said(kind, solution, 3).reason

# --- declared mistakes

@pytest.mark.parametrize('solution, answer, reason', [
    (.0892, 8.9, 'per cent, and a share'), (4.605, -4.6, 'the sign is wrong'),
    (2.69, 269, 'a factor of 100: is the point in the right place'),
    (512, 5120, 'a factor of 10: is the point in the right place')])
def test_a_rounded_answer_has_the_reason_of_the_exact_one(solution, answer, reason):
    verdict = said(Number(), lambda: solution, answer)
    assert verdict.right is False
    assert reason in verdict.reason

def test_the_name_of_a_number_may_stand_behind_it():
    kind = Numbers('ml', 'share', rel=.01)
    assert said(kind, lambda: (1779, .04), ('1779 ml', '4 %')).right
    assert 'you wrote mm' in said(kind, lambda: (1779, .04), ('1779 mm', .04)).reason

def test_a_declared_mistake_goes_first():
    declared = dict(mistakes={'the shorter one': lambda: 41}, why='As the table says.')
    assert said(Number(), lambda: 40, 41, **declared) == (False, 'the shorter one')
    assert said(Number(), lambda: 40, 40, **declared) == (True, 'As the table says.')

def test_before_anything_ran():
    assert 'Solution' in judge('9.9', 3).reason
    verdict = said(Number(), lambda: data_of_a_cell_above, 3) # noqa: F821
    assert verdict.right is None
    assert 'data_of_a_cell_above' in verdict.reason

def raises(error): raise error

@pytest.mark.parametrize('error', [
    AttributeError("'tuple' object has no attribute 'groupby'"), TypeError('no'), KeyError('p'),
    ZeroDivisionError('0/0')], ids=repr)
def test_names_that_hold_something_else_by_now(error):
    "A lesson uses `slices` twice: whoever goes back and checks again gets a sentence, no traceback"
    verdict = said(Number(), lambda: raises(error), 3)
    assert verdict.right is None
    assert 'run the cells above' in verdict.reason
    assert type(error).__name__ in verdict.reason
    mistakes = {'of nothing': lambda: raises(error), 'twice': lambda: 80}
    assert said(Number(), lambda: 40, 80, mistakes=mistakes) == (False, 'twice')

@pytest.mark.parametrize('answer', [151, 200, 100, 160, 149])
def test_a_count_has_not_lost_its_digits(answer):
    assert 'rounded' not in said(Number(), lambda: 150, answer).reason

def test_the_answer_follows_the_data():
    data = [1, 2]
    declare(Number(), lambda: sum(data))
    assert judge('0.0', 3).right
    data.append(4)
    assert judge('0.0', 7).right

def test_check_prints_a_line(capsys):
    declare(Number(), lambda: 40, why='So it is.')
    for answer in 40, 41, ...:
        check('0.0', answer)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '0.0: right. So it is.'
    assert lines[2] == '0.0: not answered yet'
    assert lines[1].startswith('0.0: not yet: off by one')

@pytest.mark.parametrize('solution, mistakes, lines', [
    (40, {'a': 41, 'b': 42}, ['- 41: a', '- 42: b']), (40, {'a': 40, 'b': 41}, ['- 41: b']),
    (40, {'a': 41, 'b': 41}, ['- 41: a'])])
def test_key_on_other_data(capsys, solution, mistakes, lines):
    "A mistake that can't be told from the solution, or from another, is left out"
    declare(Number(), lambda: solution, mistakes=mistakes)
    answer_key('0.0')
    assert capsys.readouterr().out.splitlines() == ['0.0: 40.', 'Usual mistakes:', *lines]

def test_key_without_an_answer(capsys):
    declare(Number(), lambda: np.nan)
    answer_key('0.0')
    assert 'no answer on this data' in capsys.readouterr().out

def test_the_key_computes_each_answer_once(capsys):
    "A solution or a mistake may take seconds"
    calls = []
    def noted(value):
        def compute():
            calls.append(value)
            return value
        return compute
    declare(Number(), noted(40), mistakes={'twice': noted(80), 'the sign': noted(-40)})
    answer_key('0.0')
    assert sorted(calls) == [-40, 40, 80]
    assert '- 80: twice' in capsys.readouterr().out

def test_a_mistake_without_an_answer_on_this_data():
    mistakes = {'of nothing': lambda: float('nan'), 'twice': lambda: 80}
    verdict = said(Number(), lambda: 40, 80, mistakes=mistakes)
    assert verdict.reason == 'twice'

def test_key(capsys):
    declare(Number('HU'), lambda: 40, mistakes={'a': lambda: 50, 'b': 60}, why='So it is.')
    answer_key('0.0')
    printed = capsys.readouterr().out
    assert printed == '0.0: 40 HU. So it is.\nUsual mistakes:\n- 50 HU: a\n- 60 HU: b\n'

def test_key_is_folded(monkeypatch):
    "Closed, with all it shows inside, and nothing of an answer taken for HTML"
    shown = []
    monkeypatch.setattr('IPython.display.display', shown.append)
    declare(Number(), lambda: 2, mistakes={'1 < 2 & so on': 1}, why='So it is.')
    table, picture = pd.DataFrame({'n': [5]}), Picture(1, 1, alt='A "picture"')
    answer_key('0.0', 'a line', table, picture)
    html = shown[0]._repr_html_()
    start = '<details class="answer-key"><summary style="cursor: pointer">'
    assert html.startswith(f'{start}Answer and usual mistakes</summary><p>0.0: 2. So it is.</p>')
    assert html.endswith('</details>') and html.count('<details') == 1
    assert '<li>1: 1 &lt; 2 &amp; so on</li>' in html
    assert '>a line</p>' in html and '<td>5</td>' in html
    assert re.search(r'<img src="data:image/png;base64,[\w+/=]+" alt="A &quot;picture&quot;">', html)

def test_key_as_text(capsys):
    "Where no HTML is shown"
    declare(*kinds['essay'])
    answer_key('0.0', 'a line', Picture(1, 1, alt='A picture'))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ['  [ ] a point', '  [ ] another', 'a line', 'A picture']

# --- predictions

@pytest.mark.parametrize('prediction, words', [
    (..., 'no prediction'), (10, 'close'), (30, 'too high by a factor of 3.1'),
    ('3 HU', 'too low by a factor of 3.2'), (-9.7, 'you said -9.7.'), ('many', 'can not be read')])
def test_prediction(prediction, words):
    sentence = predicted(prediction, 9.73, 'HU')
    assert sentence.startswith('It is 9.7 HU')
    assert words in sentence

def test_prediction_in_words():
    assert predicted('Bone', 'bone') == 'It is bone, as you said.'
    assert predicted('lung', 'bone') == 'It is bone, and you said lung.'

@pytest.mark.parametrize('prediction', ['bd', 'db', 'b, d', 'B D', ['d', 'b'], ('b', 'd'), {'b', 'd'}])
def test_letters_in_any_order(prediction):
    assert predicted(prediction, 'bd', any_order=True) == 'It is bd, as you said.'
    assert predicted('ab', 'bd', any_order=True) == 'It is bd, and you said ab.'

@pytest.mark.parametrize('prediction, result, unit, words', [
    (93, .93, '', 'It is 0.93, and you said 93: too high by a factor of 100.'),
    (.5, .0041, '', 'It is 0.0041, and you said 0.5: too high by a factor of 120.'),
    (50, 100., '%', 'It is 100 %, and you said 50: too low by a factor of 2.'),
    (1, 123456, 'mm', 'It is 120000 mm, and you said 1: too low by a factor of 120000.')])
def test_a_prediction_is_answered_without_exponents(prediction, result, unit, words):
    assert predicted(prediction, result, unit) == words

def test_tensors_within_an_answer():
    "As a loss is, with a gradient, or in a precision that NumPy does not have"
    import torch
    @exercise('x.tensors', Numbers('loss', 'dice'))
    def solution(): return 1., 2.
    loss, dice = torch.tensor([1., 2.], requires_grad=True)
    for answer in (loss, dice), [loss.bfloat16(), dice.bfloat16()], dict(loss=loss, dice=dice):
        assert judge('x.tensors', answer).right

def test_results_of_unlike_shapes():
    "An array and a number, as a function may return them"
    @exercise('x.parts', Function((np.eye(3),)))
    def split(a): return a > 0, float(a.sum())
    assert judge('x.parts', split).right
    assert not judge('x.parts', lambda a: (a > 0, 2.)).right
