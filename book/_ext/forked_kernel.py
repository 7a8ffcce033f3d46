"""Kernels that have nothing to import: forks of one process that has imported what most chapters do.

To import it takes longer than the cells of a short chapter. Only on Linux is it safe to fork such a process.
"""

import multiprocessing
import os
import sys
import threading
from contextlib import chdir
from importlib.metadata import EntryPoint
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

IMPORTED = (
    "forked_kernel",
    "matplotlib.pyplot",
    "pandas",
    "scipy.stats",
    "sentence_transformers",
    "tempscale.notebook",
)
# what a kernel chooses if nothing is chosen, but too late for a library that is imported already
BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


class Kernel(ForkServerProcess):
    """The kernel of one notebook, with the few methods of `subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, connection: str, folder: str, environment: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.connection, self.folder, self.environment = connection, folder, environment

    def run(self) -> None:
        """Be the kernel, as `python -m ipykernel_launcher` is."""
        os.setsid()  # signals are sent to the group, as to a kernel that was started by a command
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.chdir(self.folder)
        os.environ |= self.environment | BACKEND
        sys.argv = ["ipykernel_launcher"]
        sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).parent)]  # the book's own modules
        # with a parent named, it does not print how to connect to it
        IPKernelApp.launch_instance(["-f", self.connection, f"--IPKernelApp.parent_handle={os.getppid()}"])

    def poll(self) -> int | None:
        """The exit status; `None` as long as it runs."""
        return self.exitcode

    def wait(self) -> int | None:
        """The exit status, when it has ended."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send it the signal of this number."""
        os.kill(self.pid, number)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


class ForkedProvisioner(LocalProvisioner):
    """Starts a kernel as a fork, whatever its command says."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Fork a kernel with the connection file that `cmd` names."""
        self.cwd = kwargs["cwd"]
        self.process = Kernel(cmd[cmd.index("-f") + 1], self.cwd, kwargs["env"])
        self.process.start()
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def fork_kernels(folder: Path) -> None:
    """Have this process fork the kernels that it starts; what they share is imported in `folder`."""
    if sys.platform != "linux":
        return
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    with chdir(folder), patch.dict(os.environ, BACKEND):  # matplotlib reads its settings there
        forkserver.ensure_running()
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["forked"] = EntryPoint("forked", "forked_kernel:ForkedProvisioner", factory.GROUP_NAME)
    factory.default_provisioner_name = "forked"
