-- The journal: which events made a row of history. It is written only if journal.keep is set; without it
-- nothing of this is called. And a count of the dead letters that a purge has removed (dead.keep).

-- +goose Up
-- A row for each row of history that events have led to, written in the same transaction. No foreign key: it is
-- removed with its row of history, or by its age.
CREATE TABLE aggregator.journal (
    child_profile_id bigint NOT NULL,
    history_id       bigint NOT NULL,
    source           text NOT NULL,        -- that the events are from; of a dead letter, its source
    written_at       timestamptz NOT NULL,
    -- Of each event ms * 2^20 + seq of its position, in order. Where one does not fit into that: ms and seq of
    -- each, one after the other, which are twice as many as there are books.
    positions        bigint[] NOT NULL,
    books            bigint[] NOT NULL,
    weights          real[],               -- of each event; null if one of them is not exact as a real
    exact_weights    float8[],             -- null unless weights is
    PRIMARY KEY (child_profile_id, history_id)
);

-- How many settled dead letters of a source were removed: reconciling counts these, too.
CREATE TABLE aggregator.dead_letter_removed (
    source  text PRIMARY KEY,
    removed bigint NOT NULL
);

-- A purge removes rows of both. To erase what is kept of a child takes the right to change dead letters.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regrole('aggregator_purge') IS NOT NULL THEN
        GRANT DELETE ON aggregator.journal TO aggregator_purge;
        GRANT UPDATE, DELETE ON aggregator.dead_letter TO aggregator_purge;
        GRANT INSERT, UPDATE ON aggregator.dead_letter_removed TO aggregator_purge;
    END IF;
END
$$;
-- +goose StatementEnd

-- Applies as aggregator.apply (migration 11), and keeps the events of the history row that it has written.
--
-- in, out: as apply; event_positions, event_books, event_weights, exact_weights: the events that the sums are made
-- of, as the columns of aggregator.journal have them.
-- +goose StatementBegin
CREATE FUNCTION aggregator.apply_journaled(
    profile bigint, source_name text, source_epoch bigint,
    seen_ms bigint, seen_seq bigint, to_ms bigint, to_seq bigint, applied_events bigint,
    changed boolean, careful boolean, type_ids bigint[], above_mean boolean, typed boolean,
    add_i float8, add_e float8, add_s float8, add_n float8, add_t float8, add_f float8, add_j float8, add_p float8,
    genres bigint[], genre_sums float8[], topics bigint[], topic_sums float8[],
    event_positions bigint[], event_books bigint[], event_weights real[], exact_weights float8[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    history bigint = aggregator.apply(profile, source_name, source_epoch, seen_ms, seen_seq, to_ms, to_seq, applied_events,
        changed, careful, type_ids, above_mean, typed, add_i, add_e, add_s, add_n, add_t, add_f, add_j, add_p,
        genres, genre_sums, topics, topic_sums);
BEGIN
    IF history IS NOT NULL THEN
        INSERT INTO aggregator.journal
            (child_profile_id, history_id, source, written_at, positions, books, weights, exact_weights)
        VALUES (profile, history, source_name, now(), event_positions, event_books, event_weights, exact_weights);
    END IF;
    RETURN history;
END
$$;
-- +goose StatementEnd

-- The procedure aggregator.apply_each (migration 11) with the journal.
--
-- in: as apply_each; first_event and last_event say which elements of the last four arrays are a profile's,
-- counted from 1. Of event_weights and exact_weights one is null. Each position is one element.
-- +goose StatementBegin
CREATE PROCEDURE aggregator.apply_each_journaled(
    source_name text, source_epoch bigint, type_ids bigint[], above_mean boolean,
    profiles bigint[], seen_ms bigint[], seen_seq bigint[], to_ms bigint[], to_seq bigint[], applied_events bigint[],
    changed boolean[], careful boolean[], typed boolean[],
    add_i float8[], add_e float8[], add_s float8[], add_n float8[], add_t float8[], add_f float8[], add_j float8[], add_p float8[],
    first_genre int[], last_genre int[], genres bigint[], genre_sums float8[],
    first_topic int[], last_topic int[], topics bigint[], topic_sums float8[],
    first_event int[], last_event int[], event_positions bigint[], event_books bigint[], event_weights real[],
    exact_weights float8[]
)
LANGUAGE plpgsql AS $$
DECLARE
    w       record;
    history bigint; -- an assignment costs less than PERFORM
BEGIN
    FOR w IN
        SELECT profiles[k] AS id, seen_ms[k] AS old_ms, seen_seq[k] AS old_seq, to_ms[k] AS new_ms, to_seq[k] AS new_seq,
            applied_events[k] AS events, changed[k] AS changed, careful[k] AS careful, typed[k] AS typed,
            add_i[k] AS i, add_e[k] AS e, add_s[k] AS s, add_n[k] AS n, add_t[k] AS t, add_f[k] AS f, add_j[k] AS j, add_p[k] AS p,
            genres[first_genre[k] : last_genre[k]] AS genres, genre_sums[first_genre[k] : last_genre[k]] AS genre_sums,
            topics[first_topic[k] : last_topic[k]] AS topics, topic_sums[first_topic[k] : last_topic[k]] AS topic_sums,
            event_positions[first_event[k] : last_event[k]] AS positions, event_books[first_event[k] : last_event[k]] AS books,
            event_weights[first_event[k] : last_event[k]] AS weights, exact_weights[first_event[k] : last_event[k]] AS exact
        FROM generate_series(1, cardinality(profiles)) k -- unnest would keep a list for each array
    LOOP
        -- As apply_journaled; to call that one costs a percent more.
        history = aggregator.apply(w.id, source_name, source_epoch, w.old_ms, w.old_seq, w.new_ms, w.new_seq, w.events,
            w.changed, w.careful, type_ids, above_mean, w.typed, w.i, w.e, w.s, w.n, w.t, w.f, w.j, w.p,
            w.genres, w.genre_sums, w.topics, w.topic_sums);
        IF history IS NOT NULL THEN
            INSERT INTO aggregator.journal
                (child_profile_id, history_id, source, written_at, positions, books, weights, exact_weights)
            VALUES (w.id, history, source_name, now(), w.positions, w.books, w.weights, w.exact);
        END IF;
        COMMIT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- A program without them writes no journal.
INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES (13, 9);

-- +goose Down
-- Without the count, reconciling would miss what a purge has removed.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM aggregator.dead_letter_removed WHERE removed > 0) THEN
        RAISE EXCEPTION 'settled dead letters were removed (dead.keep), and only version 13 counts them';
    END IF;
END
$$;
-- +goose StatementEnd
DELETE FROM aggregator.schema_compatibility WHERE version = 13;
DROP PROCEDURE aggregator.apply_each_journaled;
DROP FUNCTION aggregator.apply_journaled;
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regrole('aggregator_purge') IS NOT NULL THEN
        REVOKE UPDATE, DELETE ON aggregator.dead_letter FROM aggregator_purge;
    END IF;
END
$$;
-- +goose StatementEnd
DROP TABLE aggregator.dead_letter_removed;
DROP TABLE aggregator.journal;
