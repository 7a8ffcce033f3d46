"""The built book, served on this machine."""

import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.absent import absent
from support.pages import opened

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

PAGES = re.findall(r"(?:root|file): book/(\S+)", (ROOT / "_toc.yml").read_text("utf-8"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, scope="session")  # so that the tests of one page follow each other


@pytest.fixture(scope="session")
def site() -> Path:
    """The built pages."""
    html = ROOT / "_build" / "html"
    if not (html / "book" / "index.html").is_file():
        absent("the book is not built: run `make book` first")
    return html


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address at which the pages are served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def wide(browser: Browser, address: str, page: str) -> Iterator[tuple[Page, list[str]]]:
    """A page on a wide screen, and what the browser complained of since it was opened."""
    with opened(browser, f"{address}/book/{page}.html") as tab:
        yield tab
