"The command `medtut` in a process of its own, forked from one that has imported all"
import atexit
import os
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from forks import server

# Importing takes most of the time of a small command, and a fork of the server has imported
# already. `test_cli.py` starts Python anew for each command, so that both ways are tested.

class Done(NamedTuple):
    "What came of a command"
    returncode: int
    stdout: str
    stderr: str

def _call(args, folder, out, err):
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    # of small folders one process makes less work than it takes to start one a core; -j 2 does
    os.environ['LOKY_MAX_CPU_COUNT'] = '1'
    sys.argv = ['medtut', *args]
    from medtut.cli import main
    code = 0
    try: main()
    except SystemExit as e: code = e.code
    # as Python ends; `multiprocessing` would first wait for joblib's workers to go
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def medtut(*args, cwd=None):
    "Call `medtut` in the folder `cwd`"
    with TemporaryDirectory() as folder:
        out, err = Path(folder)/'out', Path(folder)/'err'
        args = [str(arg) for arg in args]
        process = server().Process(target=_call, args=(args, cwd or os.getcwd(), out, err))
        process.start()
        process.join()
        return Done(process.exitcode, out.read_text(), err.read_text())
