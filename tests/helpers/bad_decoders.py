"Stand-ins for `medtut.decoding._decode_numbers` that do the worst a native decoder does"
import os
import time

import numpy as np

from medtut.decoding import _decode_numbers as decode


def crash(*args): os.abort()
def wait(*args): time.sleep(600)


def hang(*args):
    while True: pass


def decode_late(*args):
    "As on a machine with too much to do: time goes by, and little of it is the decoder's"
    time.sleep(6)
    return decode(*args)


def swell(*args):
    return np.ones(2**34, np.uint8), 'swell'
