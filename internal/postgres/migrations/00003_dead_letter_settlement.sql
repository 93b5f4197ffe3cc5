-- What became of a dead letter. Rows stay when they are settled: the entries of a source
-- are what the marks say was applied, plus all dead letters ever written.

-- +goose Up
ALTER TABLE aggregator.dead_letter
    ADD COLUMN settled_at      timestamptz,
    ADD COLUMN settled_as      text CHECK (settled_as IN ('applied', 'dropped')),
    ADD COLUMN attempts        int NOT NULL DEFAULT 0, -- retries, the one that succeeded among them
    ADD COLUMN last_attempt_at timestamptz,
    ADD COLUMN last_error      text, -- of the latest retry; null when it succeeded
    ADD CONSTRAINT dead_letter_settled CHECK ((settled_at IS NULL) = (settled_as IS NULL));

-- The order in which letters are listed; those that are not settled are few among all.
CREATE INDEX dead_letter_unsettled ON aggregator.dead_letter (created_at, source, position_ms, position_seq)
    WHERE settled_at IS NULL;

-- What the daemon itself tries again every half a minute: it must not have to look
-- through a million letters of junk for that.
CREATE INDEX dead_letter_unknown ON aggregator.dead_letter (created_at, source, position_ms, position_seq)
    WHERE settled_at IS NULL AND reason IN ('unknown_profile', 'unknown_book');
