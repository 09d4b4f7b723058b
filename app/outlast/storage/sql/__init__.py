"""Code that storage plug-ins with SQL share. Pure: no driver, no I/O."""
