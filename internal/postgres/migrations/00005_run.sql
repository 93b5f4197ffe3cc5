-- What was done: a row for each drain, service session and other job. Nothing depends on
-- it, see packages lease and runs.

-- +goose Up
CREATE TABLE aggregator.run (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         text   NOT NULL UNIQUE, -- made up by who writes the row, so that it may write it again
    kind        text   NOT NULL,
    host        text   NOT NULL,
    version     text   NOT NULL, -- of the program
    due_at      timestamptz, -- when the schedule wanted it; null: somebody asked for it
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL, -- renewed while it runs: one that is not seen any more is no more
    finished_at timestamptz,
    read        bigint NOT NULL,
    applied     bigint NOT NULL,
    dead        bigint NOT NULL,
    profiles    bigint NOT NULL,
    chunks      bigint NOT NULL,
    rate        double precision GENERATED ALWAYS AS ( -- read a second
        (read / nullif(extract(epoch FROM coalesce(finished_at, seen_at) - started_at), 0))::double precision) STORED,
    outcome     text CHECK (outcome IN ('done', 'limited', 'stopped', 'failed')),
    error       text,
    CONSTRAINT run_finished CHECK ((finished_at IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 50);

CREATE INDEX run_kind ON aggregator.run (kind, id DESC);
