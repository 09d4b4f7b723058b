"""System calls and files that only Linux has, each behind one function with its fallback beside it."""
