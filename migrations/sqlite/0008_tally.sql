-- How many processes have been purged. With the last handle given, that tells how many there are without counting them.

CREATE TABLE tally (purged INTEGER NOT NULL) STRICT; -- one row

INSERT INTO tally (purged)
SELECT coalesce((SELECT s.seq FROM sqlite_sequence s WHERE s.name = 'process'), 0) - count(*) FROM process;
