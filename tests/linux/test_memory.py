"""Memory that is given back, and read again when it is used."""

import subprocess
import sys

PROGRAM = """
from cryptography.fernet import Fernet
from outlast.linux.memory import page_out_programs

page_out_programs({"cryptography"})
key = Fernet(Fernet.generate_key())
assert key.decrypt(key.encrypt(b"works")) == b"works"
"""


def test_a_library_that_is_paged_out_works() -> None:
    """How much that frees is up to the kernel: a page that another process uses, too, stays."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
