"""Memory that is given back, and read again when it is used."""

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from cryptography.fernet import Fernet
from outlast.linux.memory import page_out_programs

def resident_kib():
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()  # statm is not exact
    return next(int(row.split()[1]) for row in rows if row.startswith("Rss:"))

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
