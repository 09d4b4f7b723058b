"""`outlast up` and `down`: the files that declare a project, and what is made of them."""
