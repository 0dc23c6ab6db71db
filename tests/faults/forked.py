"""The processes in which files are parsed, as forks of this one.

A trial reading, or a parser of ONNX or torch, is a script in a Python of its own, most of whose time goes into starting
it.  A fork that runs the same script with the same limits and descriptors, in a process that has the libraries loaded
already, makes thousands of files possible; that it decides as the real one is a test of its own.
"""

import faulthandler
import os
import runpy
import select
import signal
import subprocess
import sys
import traceback
from typing import Any, BinaryIO


def run(
    command: list[str], *, stdin: BinaryIO, stdout: Any, stderr: Any, env: dict[str, str], timeout: float, check: bool
) -> "subprocess.CompletedProcess[bytes]":
    """Do what ``subprocess.run`` does for ``python -I script`` and ``python -I -c code``."""
    assert command[:2] == [sys.executable, "-I"]
    assert not check
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.disable()  # a crash of this process is an answer
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.environ.update(env)
            for descriptor, stream in enumerate((stdin, stdout, stderr)):
                source = os.open(os.devnull, os.O_WRONLY) if stream == subprocess.DEVNULL else stream.fileno()
                os.dup2(source, descriptor)
            os.lseek(0, 0, os.SEEK_SET)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            script, sys.argv = command[2:], ["script", *command[3:]]
            if script[0] == "-c":
                sys.argv = ["-c", *script[2:]]
                exec(compile(script[1], "script", "exec"), {"__name__": "__main__"})
            else:
                runpy.run_path(script[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    descriptor = os.pidfd_open(child)
    try:
        if not select.select([descriptor], [], [], timeout)[0]:
            os.kill(child, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout)
    finally:
        _, status = os.waitpid(child, 0)
        os.close(descriptor)
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status))
