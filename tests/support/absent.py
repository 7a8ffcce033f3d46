"""Something that a test needs and this machine may lack."""

import os

import pytest


def absent(reason):
    """Skip, or fail where the checks must not be skipped."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
