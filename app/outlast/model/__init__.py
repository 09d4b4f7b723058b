"""What the product talks about: processes, runs, output, errors. Pure: no I/O, no third-party imports."""
