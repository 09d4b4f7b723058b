-- Where a search for output since a time may begin. A row is the first chunk that is a minute or more later than the one
-- in the row before, so every chunk before it is earlier than that: no look at them is needed to know it.

CREATE TABLE minute (
    ts          INTEGER PRIMARY KEY, -- of the chunk
    first_chunk INTEGER NOT NULL     -- its id
) STRICT;
