"""Tools that tests share: real daemons, and waiting for conditions."""
