"Stand-ins for `medtut.decoding._decode_numbers` that do the worst a native decoder does"
import os
import time

import numpy as np


def crash(*args): os.abort()
def hang(*args): time.sleep(600)
def swell(*args):
    return np.ones(2**34, np.uint8), 'swell'
