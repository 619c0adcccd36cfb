"""Starts kernels as forks of one process that has imported the large libraries, once for all.

That process is multiprocessing's fork server. A forked kernel is what a new process would be: the
libraries are imported in the kernels' own environment, before there is a shell or a thread, and
none of the book's own modules is. It costs 0.7 core-seconds, and 2.9 as a new process.
"""

import multiprocessing
import os
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from typing import Any
from unittest.mock import patch

from jupyter_client import LocalProvisioner
from jupyter_client.connect import KernelConnectionInfo

# What the chapters of this book use sooner or later. One that is not installed is passed over.
LIBRARIES = (
    *("ipykernel.kernelapp", "torch", "pandas", "matplotlib.figure", "scipy.stats"),
    *("joblib", "filelock", "safetensors.torch", "tqdm"),
)


class ForkProvisioner(LocalProvisioner):
    """Launches the kernel as a fork; the fork server is there from the first one on."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        environment = options["env"]
        with patch.dict(os.environ, environment):
            forkserver.set_forkserver_preload(list(LIBRARIES))
            forkserver.ensure_running()
        arguments = (cmd[cmd.index("-m") + 2 :], options["cwd"], environment)
        self.process = _Kernel(target=_run, args=arguments)
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Kernel(ForkServerProcess):
    """A forked kernel, with what LocalProvisioner uses of a Popen."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.is_alive():
            os.kill(self.pid, number)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    import ipykernel_launcher
    import numpy
    import torch
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()  # a Ctrl-C is the builder's
    multiprocessing.set_start_method(None, force=True)  # the usual one, for what cells start
    builder = multiprocessing.parent_process()
    threading.Thread(target=lambda: (builder.join(), os._exit(1)), daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    numpy.random.seed()  # `random` does so by itself
    torch.default_generator.seed()
    sys.argv = [ipykernel_launcher.__file__, *arguments]
    launch_new_instance()
