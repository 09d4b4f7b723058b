-- What was asked for besides the command: limits, timeout, restarts ... as JSON, without what is at its default.

ALTER TABLE process ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
