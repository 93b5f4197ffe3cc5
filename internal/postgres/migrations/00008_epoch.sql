-- How often a source was reset (aggregator checkpoint reset). Who read the checkpoint before
-- the last reset must neither move it nor make a mark: it has not read from the begin.

-- +goose Up
ALTER TABLE aggregator.checkpoint ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
