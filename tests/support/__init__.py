"""What the tests share: real daemons, and waiting for conditions."""
