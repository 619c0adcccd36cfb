"""Starts kernels as forks of one process that has imported the large libraries, once for all.

This file is that process too, run as a script. It imports `LIBRARIES`, says so, and obeys what it
then receives: for a kernel's arguments it forks the kernel and answers its process id, and for such
an id it answers the exit code, None while the kernel runs. It ends with the process at the other
end of the connection, however that ended, and its kernels end within a second of it.

A forked kernel is what a new process would be: the libraries are imported and nothing else is
done, in the kernels' own environment and folder (matplotlib reads its settings when imported),
before there is a shell or a thread; random numbers that a process seeds by chance are seeded anew.
None of the book's own modules is loaded here, so that a kernel has them as they are when it starts.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jupyter_client import LocalProvisioner
from jupyter_client.connect import KernelConnectionInfo

# What the chapters of this book use sooner or later. One that is not installed is passed over.
LIBRARIES = (
    *("ipykernel.kernelapp", "torch", "pandas", "matplotlib.figure", "scipy.stats"),
    *("joblib", "filelock", "safetensors.torch", "tqdm"),
)


class KernelServer:
    """The process that forks kernels for this one, all in the folder `cwd` with `environment`."""

    def __init__(self, cwd: Path, environment: dict[str, str]) -> None:
        self._ready = False
        self._connection, other = multiprocessing.Pipe()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # a Ctrl-C is the builder's
            )

    async def ready(self) -> bool:
        """Waits until the libraries are imported. False: the process ended over them."""
        while not self._connection.poll():
            await asyncio.sleep(0.02)
        with suppress(EOFError):
            self._ready = self._connection.recv()
        return self._ready

    def ask(self, request: list[str] | int) -> int | None:
        """Raises OSError or EOFError if the process is gone."""
        self._connection.send(request)
        return self._connection.recv()

    def close(self) -> None:
        """Ends the process; its kernels should have been shut down."""
        if not self._ready:
            self._process.terminate()  # it would hear of the other end only after its imports
        self._connection.close()
        self._process.wait()


class ForkProvisioner(LocalProvisioner):
    """Launches the kernel by a KernelServer, whose folder and environment it gets."""

    def __init__(self, server: KernelServer, **traits: Any) -> None:
        super().__init__(**traits)
        self._server = server

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        try:
            self.process = _Fork(self._server, cmd[cmd.index("-m") + 2 :])
        except (OSError, EOFError):  # the server was killed
            return await super().launch_kernel(cmd, **options)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Fork:
    """A forked kernel, as far as LocalProvisioner uses a Popen."""

    stdin = stdout = stderr = None

    def __init__(self, server: KernelServer, arguments: list[str]) -> None:
        self._server, self._code = server, None
        self.pid: int = server.ask(arguments)

    def poll(self) -> int | None:
        if self._code is None:
            try:
                self._code = self._server.ask(self.pid)
            except (OSError, EOFError):  # the server was killed, and this ends with it
                self._code = -signal.SIGKILL
        return self._code

    wait = poll  # called when it has ended

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _serve(connection: Connection) -> None:
    """Returns when the other end is closed, or, in a forked process, when the kernel ends."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # a kernel ends when its parent changes
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends a kernel that is not yet one, quietly
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this script; the shell inserts that in which it runs
    gc.disable()
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)
    gc.freeze()  # so that a kernel's collector does not touch, hence copy, what is shared
    gc.enable()
    connection.send(True)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            connection.send(os.waitstatus_to_exitcode(status) if pid else None)
        elif pid := os.fork():
            connection.send(pid)
        else:
            connection.close()
            _become_kernel(request)
            return


def _become_kernel(arguments: list[str]) -> None:
    import ipykernel_launcher
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    atexit.unregister(shutil.rmtree)  # temporary folders made before are the server's to remove
    if numpy := sys.modules.get("numpy"):  # `random` does so by itself
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    sys.argv = [ipykernel_launcher.__file__, *arguments]
    launch_new_instance()


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
