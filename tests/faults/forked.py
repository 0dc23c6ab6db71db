"""The processes in which files are parsed, as forks of one that has the libraries loaded.

A trial reading, or a parser of ONNX or torch, is a script in a Python of its own, most of whose time goes into starting
it.  A small process that forks for each script, with the same limits and descriptors, makes thousands of files
possible; that it decides as the real ones is a test of its own.

This file is also the script of that process: ``python -I forked.py DESCRIPTOR MODULE ...``.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from typing import Any, BinaryIO, NoReturn

SIZE = 1 << 16  # of a message: a script with its arguments


class Server:
    """A process that forks; ``run`` stands for ``subprocess.run``."""

    def __init__(self, *modules: str) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-I", __file__, str(theirs.fileno()), *modules]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()

    def run(
        self, command: list[str], *, stdin: BinaryIO, stdout: Any, stderr: Any, env: dict[str, str], timeout: float,
        check: bool,
    ) -> "subprocess.CompletedProcess[bytes]":  # fmt: skip
        """Do what ``subprocess.run`` does for ``python -I script`` and ``python -I -c code``."""
        assert command[:2] == [sys.executable, "-I"]
        assert not check
        changed = {name: value for name, value in env.items() if os.environ.get(name) != value}
        message = json.dumps([command[2:], changed, timeout]).encode()
        assert len(message) < SIZE
        with open(os.devnull, "w") as nothing:
            streams = [nothing if stream == subprocess.DEVNULL else stream for stream in (stdin, stdout, stderr)]
            socket.send_fds(self._socket, [message], [stream.fileno() for stream in streams])
        code = json.loads(self._socket.recv(SIZE))
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, code)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()


def serve(channel: socket.socket) -> None:
    """Fork for each script, and answer with its exit code, or None for one that has not come to an end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, SIZE, 3)
        if not message:
            return
        script, environment, timeout = json.loads(message)
        child = os.fork()
        if child == 0:
            become(script, environment, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        watched = os.pidfd_open(child)
        ended = bool(select.select([watched], [], [], timeout)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(watched)
        channel.send(json.dumps(os.waitstatus_to_exitcode(status) if ended else None).encode())


def become(script: list[str], environment: dict[str, str], descriptors: list[int]) -> NoReturn:
    """Run a script to its end, and end as it does."""
    code = 1
    try:
        os.environ.update(environment)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.lseek(0, 0, os.SEEK_SET)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = [script[0], *script[2:]] if script[0] == "-c" else script
        if script[0] == "-c":
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


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
