-- What each run took of the machine: its peaks, and its last samples.

CREATE TABLE run_usage (
    handle             INTEGER NOT NULL,
    run                INTEGER NOT NULL,
    peak_processes     INTEGER,                -- NULL, like every figure here: never seen
    peak_threads       INTEGER,
    peak_open_files    INTEGER,
    peak_cpu_user_ms   INTEGER,                -- of the whole run, in the end
    peak_cpu_system_ms INTEGER,
    peak_rss_bytes     INTEGER,
    peak_pss_bytes     INTEGER,
    history            TEXT,                   -- JSON array of samples, oldest first: app/outlast/model/usage.py has the fields
    PRIMARY KEY (handle, run)
) STRICT;
