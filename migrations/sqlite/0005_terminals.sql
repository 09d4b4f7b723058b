-- Terminals: the sizes that they were given while their programs ran. `options` of a process has the size at the start.

CREATE TABLE terminal_size (
    handle INTEGER NOT NULL,
    ts     INTEGER NOT NULL, -- from when on
    rows   INTEGER NOT NULL,
    cols   INTEGER NOT NULL,
    PRIMARY KEY (handle, ts)
) STRICT, WITHOUT ROWID;
