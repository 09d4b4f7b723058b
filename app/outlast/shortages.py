"""The error numbers of a shortage, for daemon and shim: what the system lacks for a moment is nobody's mistake.

The fork helper imports this: it imports next to nothing.
"""

import errno

SHORTAGES = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Every errno that tells of a lack of processes, threads, descriptors or memory."""
