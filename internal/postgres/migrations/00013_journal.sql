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

-- The function aggregator.apply (migration 11) with the journal: the same text, and one statement more before its
-- end. A test compares the two.
--
-- in: as apply; event_positions, event_books, event_weights, exact_weights: the events that the sums are made
-- of, as the columns of aggregator.journal have them.
-- +goose StatementBegin
CREATE FUNCTION aggregator.apply_journaled(
    profile bigint, source_name text, source_epoch bigint,
    seen_ms bigint, seen_seq bigint, to_ms bigint, to_seq bigint, applied_events bigint,
    changed boolean, careful boolean, type_ids bigint[], above_mean boolean, typed boolean,
    add_i float8, add_e float8, add_s float8, add_n float8, add_t float8, add_f float8, add_j float8, add_p float8,
    genres bigint[], genre_sums float8[], topics bigint[], topic_sums float8[],
    event_positions bigint[], event_books bigint[], event_weights real[], exact_weights float8[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    i float8; e float8; s float8; n float8; t float8; f float8; j float8; p float8; -- the MBTI scores as they stand then
    history bigint;
    updated bigint;
    created bigint;
BEGIN
    -- A mark that was there and is gone must not be made again by an insert: its profile's scores
    -- are gone with it. A mark at zero says as little as none: it is what a reset leaves.
    --
    -- Whoever makes a first mark must have read from the checkpoint of this epoch on, or it would
    -- pass over what came before. To move one there is nothing more to ask: a reset puts all marks
    -- to zero, and where one was seen before it stands again only when all that is in the stream up to there
    -- has been applied anew.
    IF (seen_ms, seen_seq) <> (0, 0) THEN
        UPDATE aggregator.mark SET position_ms = to_ms, position_seq = to_seq, applied = applied + applied_events
        WHERE child_profile_id = profile AND source = source_name
            AND position_ms = seen_ms AND position_seq = seen_seq;
        IF NOT FOUND THEN
            PERFORM aggregator.refuse('LG001', 'a mark has moved', profile);
        END IF;
    ELSIF to_ms IS NOT NULL THEN
        INSERT INTO aggregator.mark AS m (source, child_profile_id, position_ms, position_seq, applied)
        SELECT source_name, profile, to_ms, to_seq, applied_events
        FROM aggregator.checkpoint c WHERE c.source = source_name AND c.epoch = source_epoch
        ON CONFLICT (child_profile_id, source) DO UPDATE
        SET position_ms = excluded.position_ms, position_seq = excluded.position_seq,
            applied = m.applied + excluded.applied
        WHERE m.position_ms = 0 AND m.position_seq = 0;
        IF NOT FOUND THEN
            PERFORM aggregator.refuse('LG001', 'a mark has moved', profile);
        END IF;
    END IF;
    IF NOT changed THEN
        RETURN true;
    END IF;

    IF typed THEN
        UPDATE cumulative_mbti_score SET
            i_score = coalesce(i_score, 0) + add_i, e_score = coalesce(e_score, 0) + add_e,
            s_score = coalesce(s_score, 0) + add_s, n_score = coalesce(n_score, 0) + add_n,
            t_score = coalesce(t_score, 0) + add_t, f_score = coalesce(f_score, 0) + add_f,
            j_score = coalesce(j_score, 0) + add_j, p_score = coalesce(p_score, 0) + add_p
        WHERE child_profile_id = profile
        RETURNING i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score INTO i, e, s, n, t, f, j, p;
        IF NOT FOUND THEN
            INSERT INTO cumulative_mbti_score AS c
                (child_profile_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
            VALUES (profile, add_i, add_e, add_s, add_n, add_t, add_f, add_j, add_p)
            ON CONFLICT (child_profile_id) DO UPDATE SET
                i_score = coalesce(c.i_score, 0) + excluded.i_score,
                e_score = coalesce(c.e_score, 0) + excluded.e_score,
                s_score = coalesce(c.s_score, 0) + excluded.s_score,
                n_score = coalesce(c.n_score, 0) + excluded.n_score,
                t_score = coalesce(c.t_score, 0) + excluded.t_score,
                f_score = coalesce(c.f_score, 0) + excluded.f_score,
                j_score = coalesce(c.j_score, 0) + excluded.j_score,
                p_score = coalesce(c.p_score, 0) + excluded.p_score
            RETURNING i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score INTO i, e, s, n, t, f, j, p;
        END IF;
        IF NOT FOUND THEN -- a trigger has kept it as it was
            SELECT i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score INTO i, e, s, n, t, f, j, p
            FROM cumulative_mbti_score
            WHERE child_profile_id = profile
                AND i_score = aggregator.as_stored('cumulative_mbti_score', 'i_score', coalesce(i_score, 0) + add_i)
                AND e_score = aggregator.as_stored('cumulative_mbti_score', 'e_score', coalesce(e_score, 0) + add_e)
                AND s_score = aggregator.as_stored('cumulative_mbti_score', 's_score', coalesce(s_score, 0) + add_s)
                AND n_score = aggregator.as_stored('cumulative_mbti_score', 'n_score', coalesce(n_score, 0) + add_n)
                AND t_score = aggregator.as_stored('cumulative_mbti_score', 't_score', coalesce(t_score, 0) + add_t)
                AND f_score = aggregator.as_stored('cumulative_mbti_score', 'f_score', coalesce(f_score, 0) + add_f)
                AND j_score = aggregator.as_stored('cumulative_mbti_score', 'j_score', coalesce(j_score, 0) + add_j)
                AND p_score = aggregator.as_stored('cumulative_mbti_score', 'p_score', coalesce(p_score, 0) + add_p);
            IF NOT FOUND THEN
                PERFORM aggregator.refuse('LG004', 'the row of cumulative_mbti_score was not written', profile);
            END IF;
        END IF;
    ELSE
        SELECT coalesce(max(i_score), 0), coalesce(max(e_score), 0), coalesce(max(s_score), 0), coalesce(max(n_score), 0),
            coalesce(max(t_score), 0), coalesce(max(f_score), 0), coalesce(max(j_score), 0), coalesce(max(p_score), 0)
        INTO i, e, s, n, t, f, j, p
        FROM cumulative_mbti_score WHERE child_profile_id = profile; -- of which there may be none
    END IF;
    IF greatest(i, e, s, n, t, f, j, p) >= 'Infinity'::float8 OR least(i, e, s, n, t, f, j, p) = '-Infinity'::float8 THEN
        PERFORM aggregator.refuse('22003', 'a score of cumulative_mbti_score is not a finite number', profile);
    END IF;

    IF careful THEN
        PERFORM aggregator.add_genres(profile, genres, genre_sums), aggregator.add_topics(profile, topics, topic_sums);
    ELSE
        -- All the sums of a profile are an array: to look into it for each score is cheaper than any join.
        UPDATE genre_score SET score = coalesce(score, 0) + genre_sums[array_position(genres, genre_id)]
        WHERE child_profile_id = profile AND genre_id = ANY (genres)
            AND (abs(score::float8) < 'Infinity'::float8) IS NOT FALSE;
        GET DIAGNOSTICS updated = ROW_COUNT;
        IF updated <> cardinality(genres) THEN
            INSERT INTO genre_score (child_profile_id, genre_id, score)
            SELECT profile, d.id, d.sum FROM unnest(genres, genre_sums) d (id, sum)
            WHERE NOT EXISTS (SELECT FROM genre_score o WHERE o.child_profile_id = profile AND o.genre_id = d.id)
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS created = ROW_COUNT;
            IF updated + created <> cardinality(genres) THEN
                PERFORM aggregator.refuse('LG004', 'a row of genre_score was not written', profile);
            END IF;
        END IF;
        UPDATE topic_score SET score = coalesce(score, 0) + topic_sums[array_position(topics, topic_id)]
        WHERE child_profile_id = profile AND topic_id = ANY (topics)
            AND (abs(score::float8) < 'Infinity'::float8) IS NOT FALSE;
        GET DIAGNOSTICS updated = ROW_COUNT;
        IF updated <> cardinality(topics) THEN
            INSERT INTO topic_score (child_profile_id, topic_id, score)
            SELECT profile, d.id, d.sum FROM unnest(topics, topic_sums) d (id, sum)
            WHERE NOT EXISTS (SELECT FROM topic_score o WHERE o.child_profile_id = profile AND o.topic_id = d.id)
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS created = ROW_COUNT;
            IF updated + created <> cardinality(topics) THEN
                PERFORM aggregator.refuse('LG004', 'a row of topic_score was not written', profile);
            END IF;
        END IF;
    END IF;

    INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
        i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
    SELECT c.id, clock_timestamp(), 'FEEDBACK', false,
        type_ids[1 + 8 * (i < e)::int + 4 * (n < s)::int + 2 * (t < f)::int + (j < p)::int], i, e, s, n, t, f, j, p
    FROM child_profile c WHERE c.id = profile
    RETURNING id INTO history;
    IF NOT FOUND THEN
        PERFORM aggregator.refuse('LG002', 'the child profile is gone', profile);
    END IF;
    INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
    SELECT profile, history, g.genre_id
    FROM (
        SELECT genre_id, ranked, least(sum(ranked) OVER () / count(*) OVER (), max(ranked) OVER ()) AS enough
        FROM (
            SELECT genre_id, CASE WHEN above_mean THEN -score::float8 ELSE score::float8 END AS ranked
            FROM genre_score
            WHERE child_profile_id = profile AND (score > 0 OR score = 0 AND above_mean) AND score < 'Infinity'::float8
        ) s
    ) g
    WHERE (g.ranked >= g.enough) <> above_mean;
    INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
    SELECT profile, history, g.topic_id
    FROM (
        SELECT topic_id, ranked, least(sum(ranked) OVER () / count(*) OVER (), max(ranked) OVER ()) AS enough
        FROM (
            SELECT topic_id, CASE WHEN above_mean THEN -score::float8 ELSE score::float8 END AS ranked
            FROM topic_score
            WHERE child_profile_id = profile AND (score > 0 OR score = 0 AND above_mean) AND score < 'Infinity'::float8
        ) s
    ) g
    WHERE (g.ranked >= g.enough) <> above_mean;
    -- The journal.
    INSERT INTO aggregator.journal (child_profile_id, history_id, source, written_at, positions, books, weights, exact_weights)
    VALUES (profile, history, source_name, now(), event_positions, event_books, event_weights, exact_weights);
    RETURN true;
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
    w    record;
    done boolean; -- an assignment costs less than PERFORM
BEGIN
    FOR w IN
        SELECT u.*, genres[u.genre1 : u.genre9] AS genres, genre_sums[u.genre1 : u.genre9] AS genre_sums,
            topics[u.topic1 : u.topic9] AS topics, topic_sums[u.topic1 : u.topic9] AS topic_sums,
            event_positions[u.event1 : u.event9] AS positions, event_books[u.event1 : u.event9] AS books,
            event_weights[u.event1 : u.event9] AS weights, exact_weights[u.event1 : u.event9] AS exact
        FROM unnest(profiles, seen_ms, seen_seq, to_ms, to_seq, applied_events, changed, careful, typed,
            add_i, add_e, add_s, add_n, add_t, add_f, add_j, add_p, first_genre, last_genre, first_topic, last_topic,
            first_event, last_event)
            u (id, old_ms, old_seq, new_ms, new_seq, events, changed, careful, typed,
               i, e, s, n, t, f, j, p, genre1, genre9, topic1, topic9, event1, event9)
    LOOP
        done = aggregator.apply_journaled(w.id, source_name, source_epoch, w.old_ms, w.old_seq, w.new_ms, w.new_seq, w.events,
            w.changed, w.careful, type_ids, above_mean, w.typed, w.i, w.e, w.s, w.n, w.t, w.f, w.j, w.p,
            w.genres, w.genre_sums, w.topics, w.topic_sums,
            w.positions, w.books, w.weights, w.exact);
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
