-- Which instance works on a source, so that the others need not. Correctness never
-- depends on it: see packages lease and runs.

-- +goose Up
CREATE TABLE aggregator.lease (
    source      text PRIMARY KEY,
    holder      text NOT NULL,
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
) WITH (fillfactor = 50);
