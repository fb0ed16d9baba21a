"""Processes that are forked from a server which has imported what they need.

Not forks of pytest itself: it has threads, and locks that a killed child would hold for ever."""
import multiprocessing
import os
import sys
from functools import cache


@cache
def server():
    "The context whose processes begin with `preloaded` and `test_crash` in memory"
    from multiprocessing import forkserver
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['preloaded', 'test_crash'])
    before = os.environ.get('PYTHONPATH', '')
    # the server of older Pythons looks for modules where any new Python does, and passes over those
    # that it does not find
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, sys.path))
    try: forkserver.ensure_running()
    finally: os.environ['PYTHONPATH'] = before
    return context
