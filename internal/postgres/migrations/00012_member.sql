-- The instances that share sources: see package cluster. A row is renewed with the leases of its
-- instance; one whose time is over is of an instance that is gone.
--
-- And the order in which dead letters are listed: without it, ten among a million that are settled
-- take seconds to find. The words of the condition are those of the query (deadletter.Filter).

-- +goose Up
CREATE TABLE aggregator.member (
    instance    text PRIMARY KEY, -- its name, which is that of the holder in aggregator.lease
    token       text NOT NULL,    -- of the process: two of one name are told apart by it
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    draining    boolean NOT NULL, -- it gives up what it has, and takes nothing
    version     text,             -- of the program
    source_kind text,             -- instances with the same source share it
    source_key  text,
    partitions  integer
) WITH (fillfactor = 50);

-- An instance that leaves removes its row.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regrole('aggregator_daemon') IS NOT NULL THEN
        GRANT DELETE ON aggregator.member TO aggregator_daemon;
    END IF;
END
$$;
-- +goose StatementEnd

CREATE INDEX dead_letter_unsettled_position ON aggregator.dead_letter (source, position_ms, position_seq)
    WHERE coalesce(settled_at, 'infinity') = 'infinity';

-- A program without it takes leases as before. Those that know it count its holder as a member.
INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES (12, 9);

-- +goose Down
DELETE FROM aggregator.schema_compatibility WHERE version = 12;
DROP INDEX aggregator.dead_letter_unsettled_position;
DROP TABLE aggregator.member;
