-- How far the thinning of the history has come. The index by which the purge finds its
-- rows is on a table of the application, which may be large and somebody else's: see
-- index.go.

-- +goose Up
CREATE TABLE aggregator.thinning (
    walk             boolean PRIMARY KEY DEFAULT true CHECK (walk), -- there is one
    daily_before     timestamptz NOT NULL, -- the limits with which the latest walk began
    monthly_before   timestamptz NOT NULL,
    child_profile_id bigint                -- profiles up to this one are thinned; null: all
);
