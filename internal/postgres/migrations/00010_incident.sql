-- That one of the two servers went back in time, or that events are missing. A row is written
-- before the loop works on, which is what makes the evidence vanish, and stays open until
-- somebody accepts it (aggregator verify --accept). Rows are never removed.

-- +goose Up
CREATE TABLE aggregator.incident (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text   NOT NULL,
    kind        text   NOT NULL CHECK (kind IN ('postgres_set_back', 'redis_set_back', 'source_missing', 'entries_removed', 'count_mismatch')),
    epoch       bigint NOT NULL, -- of the source's checkpoint
    from_ms     bigint NOT NULL, -- positions after this one are concerned,
    from_seq    bigint NOT NULL,
    to_ms       bigint NOT NULL, -- up to this one
    to_seq      bigint NOT NULL,
    to_entries  bigint NOT NULL, -- entries ever added up to there, as the bookmark in Redis counts; 0: not known
    entries     bigint NOT NULL, -- how many entries are concerned; events, of a count_mismatch
    retained    bigint NOT NULL, -- of these, still in Redis when it was found, and read again
    ahead       bigint,          -- of the others, applied all the same by marks after the checkpoint; null: not known
    detected_at timestamptz NOT NULL DEFAULT now(),
    accepted_at timestamptz,
    accepted_by text,            -- the instance; aggregator.run has a row of it
    CONSTRAINT incident_accepted CHECK ((accepted_at IS NULL) = (accepted_by IS NULL))
);

-- What comes to an open incident of the same kind is added to it.
CREATE UNIQUE INDEX incident_open ON aggregator.incident (source, kind) WHERE accepted_at IS NULL;

ALTER TABLE aggregator.run ADD COLUMN note text; -- what was done, for a person; null: the counts say it

-- A program without it reads and writes all that it knows as before, and recognises nothing.
INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES (10, 9);

-- +goose Down
DELETE FROM aggregator.schema_compatibility WHERE version = 10;
ALTER TABLE aggregator.run DROP COLUMN note;
DROP TABLE aggregator.incident;
