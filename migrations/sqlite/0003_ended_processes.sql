-- Which processes have ended for good, oldest end first, without reading all runs: retention deletes these.

ALTER TABLE run ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0; -- 1: a later run of the process is recorded

UPDATE run SET superseded = 1
WHERE EXISTS (SELECT 1 FROM run l WHERE l.handle = run.handle AND l.number > run.number);

CREATE INDEX run_ended ON run (ended_at, handle)
WHERE superseded = 0 AND ended_at IS NOT NULL AND output_complete = 1;
