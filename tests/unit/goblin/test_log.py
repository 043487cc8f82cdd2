"""What reaches the log at its most talkative."""

import subprocess
import sys

from tests.fakes.vendor import Connection, Vendor

SECRET = "sk-very-secret-0123456789"
ASK = """
import sys, httpx
from goblin import log
log.configure("DEBUG")
httpx.get(sys.argv[1], headers={"Authorization": sys.argv[2]}, trust_env=False)
"""


def echo(link: Connection) -> None:
    link.request()
    link.send(f"HTTP/1.1 200 OK\r\nx-echo: {SECRET}\r\ncontent-length: 0\r\n\r\n".encode())


def test_a_header_that_a_vendor_sends_back_is_in_no_log() -> None:
    with Vendor(echo) as vendor:
        argv = [sys.executable, "-c", ASK, vendor.url, SECRET]
        said = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert SECRET not in said.stderr
