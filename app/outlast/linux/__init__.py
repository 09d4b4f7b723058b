"""Linux's own system calls, each behind one function with its fallback beside it."""
