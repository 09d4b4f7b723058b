-- The key under which a start may be asked for again.

ALTER TABLE process ADD COLUMN idempotency_key TEXT;

CREATE UNIQUE INDEX process_by_idempotency_key ON process (idempotency_key) WHERE idempotency_key IS NOT NULL;
