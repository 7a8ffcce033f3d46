"""Which process runs a unit: a claim with a lease, which is renewed for as long as the process lives."""

import os
import secrets
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

LEASE = 120.0  # seconds of wall clock time; a process that is stopped or hangs for longer loses its claims
RENEW = 30.0  # seconds between two renewals


class Claim(NamedTuple):
    """Who has claimed a unit, and until when in seconds since 1970, unless it is renewed.

    >>> Claim("host/1 4711 5ca1ab1e", 0.0).expired, Claim(new_owner(), time.time() + 60).expired
    (True, False)
    """

    owner: str
    until: float

    @property
    def expired(self) -> bool:
        """Whether anybody may take the unit: its lease has run out, or its process is gone.

        A process that was killed renews nothing. On the machine where it ran its number tells that at once, and work can be
        resumed without waiting for the lease.
        """
        return self.until <= time.time() or _gone(self.owner)

    def __str__(self) -> str:
        """Return who it is, for people."""
        host, pid = _machine_and_process(self.owner)
        return f"process {pid} on {host.partition('/')[0]}"


def new_owner() -> str:
    """Return a name for whoever claims: machine, process, and a random part, since a process may open a store twice."""
    return f"{_host()} {os.getpid()} {secrets.token_hex(4)}"


def _machine_and_process(owner: str) -> tuple[str, str]:
    host, pid, *_ = (*owner.rsplit(" ", 2), "?")
    return host, pid


def _host() -> str:
    """Return the machine's name with its space of process numbers: containers may share the one and not the other."""
    numbers = ""
    with suppress(OSError):  # only Linux has it
        numbers = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{socket.gethostname()}/{numbers}"


def _gone(owner: str) -> bool:
    """Whether a process of this machine does not exist any more; of another machine's nothing is known."""
    host, pid = _machine_and_process(owner)
    if (
        host != _host() or not pid.isdecimal() or os.name != "posix"
    ):  # elsewhere the signal 0 is one that ends processes
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False


class Heartbeat:
    """Renews all claims of an owner, on a thread, until it is stopped."""

    def __init__(self, path: Path, owner: str) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path, owner), daemon=True)
        self._thread.start()

    def _run(self, path: Path, owner: str) -> None:
        existing = f"{path.absolute().as_uri()}?mode=rw"  # a store that was moved away is not made anew
        while not self._stopped.wait(RENEW):
            # What cannot be renewed now is so the next time; at worst a unit is run twice, and kept once.
            with suppress(sqlite3.Error), closing(sqlite3.connect(existing, uri=True)) as database, database:
                database.execute("UPDATE claim SET until = ? WHERE owner = ?", (time.time() + LEASE, owner))

    def stop(self) -> None:
        """Renew nothing any more."""
        self._stopped.set()
        self._thread.join()
