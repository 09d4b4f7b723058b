-- Gaps: chunks that hold no lines and say that something is missing.

ALTER TABLE output_chunk ADD COLUMN gap TEXT;              -- why something is missing here; NULL in a chunk of lines
ALTER TABLE output_chunk ADD COLUMN missing_bytes INTEGER; -- of a gap: by how much its stream's end grew without data

-- For sums over a process's gaps, of which there are few. A chunk of lines costs nothing here.
CREATE INDEX output_chunk_gaps ON output_chunk (handle, first_seq, missing_bytes) WHERE gap IS NOT NULL;
