"""Any exception as one sentence: what happened, where, and what can be done about it."""

import errno
import os
import sqlite3
import sys
import traceback
from pathlib import Path

# Of exceptions of these kinds the message is for people, or is the best there is.
EXPECTED = (OSError, ValueError, ImportError, MemoryError)

_NO_SPACE = "No space left on device"


def sentence(error: BaseException) -> str:
    """Return what went wrong in one sentence.

    >>> sentence(ValueError("temperature must be positive, not 0"))
    'temperature must be positive, not 0'
    >>> sentence(ZeroDivisionError("division by zero"))
    'unexpected ZeroDivisionError (division by zero); TEMPSCALE_TRACEBACK=1 shows where it comes from'
    """
    message = " ".join(str(error).split())
    if isinstance(error, UnicodeEncodeError):
        return (
            f"a text has {error.object[error.start : error.end]!r}, half of a pair of surrogates and no character: take it "
            "out, or put U+FFFD in its place"
        )
    if _NO_SPACE in message or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write{_file(error)} ({_NO_SPACE}): make room, or write elsewhere"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"cannot use{_file(error)} ({error.strerror}): {_way_out(error)}"
    if isinstance(error, sqlite3.Error):
        return f"cannot use a database ({message}): make room, end other processes that use it, or move it away"
    if type(error).__name__ == "SafetensorError":
        return f"cannot read a file of weights ({message}): it is damaged, or not all of it is there; get it again"
    if isinstance(error, MemoryError) and not message:
        return "not enough memory: take fewer or shorter texts, or end other programs"
    if isinstance(error, EXPECTED) and message:
        return message
    return (
        f"unexpected {type(error).__name__}{_place(error)} ({message}); TEMPSCALE_TRACEBACK=1 shows where it comes from"
    )


def show_traceback(error: BaseException) -> None:
    """Print the traceback on stderr, for whoever has asked for it in TEMPSCALE_TRACEBACK."""
    if os.environ.get("TEMPSCALE_TRACEBACK"):
        traceback.print_exception(error, file=sys.stderr)


def _file(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f" {name}" if isinstance(name, str) else ""


def _way_out(error: OSError) -> str:
    name = str(error.filename or "")
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache").expanduser())
    if "huggingface" in name or name.startswith(str(home)):
        return "models and data sets are kept there; name a folder where you may write in HF_HOME"
    return "name another, or ask for permission"


def _place(error: BaseException) -> str:
    """Name the innermost place in the code, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or frames[-1].filename.startswith("<doctest"):
        return ""
    path = Path(frames[-1].filename)
    return f" at {path.parent.name}/{path.name}:{frames[-1].lineno}"
