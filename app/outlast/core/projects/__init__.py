"""Projects: declared processes, the order of their starts and ends, and the file that keeps them."""
