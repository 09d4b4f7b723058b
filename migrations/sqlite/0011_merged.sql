-- Small chunks of one stream that follow one another become one row.

ALTER TABLE output_chunk ADD COLUMN parts TEXT; -- of a merged row: a JSON array with an entry for each chunk in it: how many
                                                -- milliseconds after the one before it (the first: after ts, the earliest
                                                -- of them) it was read; of one with several lines [lines, milliseconds]

-- Processes whose chunks are not all merged yet: those behind after_seq.
CREATE TABLE unmerged (
    handle    INTEGER PRIMARY KEY,
    after_seq INTEGER NOT NULL
) STRICT;

INSERT INTO unmerged (handle, after_seq) SELECT handle, 0 FROM process;
