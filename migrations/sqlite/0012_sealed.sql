-- Old output is compressed where it lies.

ALTER TABLE output_chunk ADD COLUMN codec TEXT;        -- how data is sealed: 'zstd'; NULL: data are as written
ALTER TABLE output_chunk ADD COLUMN raw_bytes INTEGER; -- of a sealed row: how many bytes were written

-- Rows up to this id have been looked at when they were old enough to be sealed.
CREATE TABLE sealed_upto (id INTEGER NOT NULL) STRICT;

INSERT INTO sealed_upto (id) VALUES (0);
