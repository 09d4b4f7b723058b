-- Totals of all that was ever stored, for metrics. They only rise: a purge changes none.

CREATE TABLE total (
    counted TEXT NOT NULL,    -- what is counted: app/outlast/model/totals.py has the names
    label   TEXT NOT NULL,    -- which of it: a result, a reason ...
    value   INTEGER NOT NULL,
    PRIMARY KEY (counted, label)
) STRICT, WITHOUT ROWID;

-- Totals of output: a JSON array of bytes and lines of standard output, then of standard error. Only the last row of a
-- commit has them, and only those of the newest row count. A row that is written anyway costs a commit no further page.
ALTER TABLE output_chunk ADD COLUMN totals TEXT;
