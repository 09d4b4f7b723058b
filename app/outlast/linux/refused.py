"""System calls that are refused: an old kernel does not have them, or a sandbox does not permit them."""

import errno

_ERRORS = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES})


def is_refused(error: OSError | AttributeError) -> bool:
    """Tell whether a call failed with the error of one that is refused.

    AttributeError: this interpreter was built for a system that does not have the call.
    """
    return isinstance(error, AttributeError) or error.errno in _ERRORS
