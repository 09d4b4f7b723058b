"""Memory that is given back, and read again when it is used."""

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from cryptography.fernet import Fernet
from outlast.linux.memory import page_out_programs

def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

before = resident_kib()
page_out_programs({"cryptography"})
after = resident_kib()
key = Fernet(Fernet.generate_key())
assert key.decrypt(key.encrypt(b"works")) == b"works"
print(before - after)
"""


def test_a_library_that_is_paged_out_works() -> None:
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(shown) > 1000
