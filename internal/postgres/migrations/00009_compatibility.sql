-- Which programs work with the schema after a migration, so that yesterday's program can go on
-- working, or be put back. A program works with a schema that is newer than the newest migration
-- it knows if each migration that it does not know says here that it does: see schema.go.
-- Each migration from this one on adds its own row, and takes it away when it is undone.

-- +goose Up
CREATE TABLE aggregator.schema_compatibility (
    version    bigint PRIMARY KEY, -- a migration
    works_with bigint NOT NULL     -- the oldest program that works with it, by the newest migration that it knows
        CHECK (works_with <= version)
);

-- A program that knows version 8 reads no such table: it works with no newer schema at all.
INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES (9, 9);

-- The daemon reads it. By the default privileges of config/roles.sql it might write, too.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regrole('aggregator_daemon') IS NOT NULL THEN
        REVOKE INSERT, UPDATE ON aggregator.schema_compatibility FROM aggregator_daemon;
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE aggregator.schema_compatibility;
