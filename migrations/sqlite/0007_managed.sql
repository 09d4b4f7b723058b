-- Processes that are looked after: whether they are to run, and what must outlive the daemon.

ALTER TABLE process ADD COLUMN encrypted_env TEXT; -- its environment's values, encrypted with a key that is not in here

CREATE TABLE managed (
    handle  INTEGER PRIMARY KEY,
    desired TEXT NOT NULL,                         -- 'running': it is started again when its policy says so; 'stopped'
    state   TEXT NOT NULL                          -- JSON
) STRICT;

-- A name could be stored before it could be asked for.
INSERT INTO managed (handle, desired, state) SELECT handle, 'running', '{}' FROM process WHERE name IS NOT NULL;

CREATE INDEX managed_to_run ON managed (handle) WHERE desired = 'running';
