-- The transaction of a child profile, as PostgreSQL runs it: package apply sends what to add,
-- these functions write it. They run with the rights and the settings of their caller, and name
-- the application's tables without a schema, so that search_path says which are meant.
--
--   apply           one profile, in the transaction of its caller
--   apply_each      many profiles, each in a transaction of its own
--   apply_together  many profiles, in the transaction of its caller, with statements for all of them
--
-- In what order rows are locked: by rising profile id, and of a profile first the mark, then the MBTI scores,
-- then genres, topics, and new history rows.
--
-- What they refuse, by SQLSTATE:
--   LG001  a mark is not where the caller has seen it; for a first mark: or the source was reset
--   LG002  there is no such child profile any more
--   LG004  not every score could be added: the application inserted its row at the same time, or a
--          trigger kept the row as it was. Called with careful, apply finds out which of the two
--   22003  a sum is not a finite number, or the score that it is added to is none
-- The DETAIL of each is the child profile.
--
-- The score columns may be of any type of numbers: what is added is float8, and assigned to the column. A
-- score that is NULL counts as 0. One that is Infinity or NaN, which the application must have written, is
-- never added to, copied into the history, or counted for favorites.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION aggregator.refuse(code text, message text, profile bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = profile::text;
END
$$;
-- +goose StatementEnd

-- What a column of a table makes of a number: a real keeps some digits of it, an integer rounds it.
-- +goose StatementBegin
CREATE FUNCTION aggregator.as_stored(table_name text, column_name text, number float8) RETURNS float8
LANGUAGE plpgsql AS $$
DECLARE
    stored float8;
BEGIN
    EXECUTE (
        SELECT format('SELECT $1::%s::float8', format_type(atttypid, atttypmod))
        FROM pg_attribute WHERE attrelid = to_regclass(table_name) AND attname = column_name
    ) INTO stored USING number;
    RETURN stored;
END
$$;
-- +goose StatementEnd

-- Adds sums to genres of a profile, whatever stands in the way: rows that are missing, rows that
-- the application inserts meanwhile, and a trigger that keeps a row as it is if nothing would
-- change (suppress_redundant_updates_trigger). RETURNING says which rows were written.
-- +goose StatementBegin
CREATE FUNCTION aggregator.add_genres(profile bigint, genres bigint[], sums float8[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    written  bigint[];
    more     bigint[];
    infinite bool;
    too      bool;
BEGIN
    WITH added AS (
        UPDATE genre_score s SET score = coalesce(s.score, 0) + d.sum
        FROM unnest(genres, sums) d (id, sum)
        WHERE s.child_profile_id = profile AND s.genre_id = d.id
        RETURNING s.genre_id, s.score
    )
    SELECT coalesce(array_agg(genre_id), '{}'), bool_or(abs(score::float8) >= 'Infinity'::float8)
    INTO written, infinite FROM added;
    WITH created AS (
        INSERT INTO genre_score AS s (child_profile_id, genre_id, score)
        SELECT profile, d.id, d.sum FROM unnest(genres, sums) d (id, sum) WHERE d.id <> ALL (written)
        ON CONFLICT (child_profile_id, genre_id) DO UPDATE SET score = coalesce(s.score, 0) + excluded.score
        RETURNING s.genre_id, s.score
    )
    SELECT coalesce(array_agg(genre_id), '{}'), bool_or(abs(score::float8) >= 'Infinity'::float8)
    INTO more, too FROM created;
    IF infinite OR too THEN
        PERFORM aggregator.refuse('22003', 'a score of genre_score is not a finite number', profile);
    END IF;
    IF EXISTS (
        SELECT FROM unnest(genres, sums) d (id, sum)
        WHERE d.id <> ALL (written) AND d.id <> ALL (more) AND NOT EXISTS (
            SELECT FROM genre_score s
            WHERE s.child_profile_id = profile AND s.genre_id = d.id
                AND s.score = aggregator.as_stored('genre_score', 'score', coalesce(s.score, 0) + d.sum))
    ) THEN
        PERFORM aggregator.refuse('LG004', 'a row of genre_score was not written', profile);
    END IF;
END
$$;
-- +goose StatementEnd

-- The same for topics.
-- +goose StatementBegin
CREATE FUNCTION aggregator.add_topics(profile bigint, topics bigint[], sums float8[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    written  bigint[];
    more     bigint[];
    infinite bool;
    too      bool;
BEGIN
    WITH added AS (
        UPDATE topic_score s SET score = coalesce(s.score, 0) + d.sum
        FROM unnest(topics, sums) d (id, sum)
        WHERE s.child_profile_id = profile AND s.topic_id = d.id
        RETURNING s.topic_id, s.score
    )
    SELECT coalesce(array_agg(topic_id), '{}'), bool_or(abs(score::float8) >= 'Infinity'::float8)
    INTO written, infinite FROM added;
    WITH created AS (
        INSERT INTO topic_score AS s (child_profile_id, topic_id, score)
        SELECT profile, d.id, d.sum FROM unnest(topics, sums) d (id, sum) WHERE d.id <> ALL (written)
        ON CONFLICT (child_profile_id, topic_id) DO UPDATE SET score = coalesce(s.score, 0) + excluded.score
        RETURNING s.topic_id, s.score
    )
    SELECT coalesce(array_agg(topic_id), '{}'), bool_or(abs(score::float8) >= 'Infinity'::float8)
    INTO more, too FROM created;
    IF infinite OR too THEN
        PERFORM aggregator.refuse('22003', 'a score of topic_score is not a finite number', profile);
    END IF;
    IF EXISTS (
        SELECT FROM unnest(topics, sums) d (id, sum)
        WHERE d.id <> ALL (written) AND d.id <> ALL (more) AND NOT EXISTS (
            SELECT FROM topic_score s
            WHERE s.child_profile_id = profile AND s.topic_id = d.id
                AND s.score = aggregator.as_stored('topic_score', 'score', coalesce(s.score, 0) + d.sum))
    ) THEN
        PERFORM aggregator.refuse('LG004', 'a row of topic_score was not written', profile);
    END IF;
END
$$;
-- +goose StatementEnd

-- Applies what a segment of a source adds up to for one profile, and writes a history row of what
-- stands then.
--
-- in: profile; source_name, source_epoch: what is drained; seen_*: where the profile's mark was
-- read, 0-0 if there was none; to_*: where it goes, null to leave the marks alone; applied_events:
-- how many events the mark counts; changed: whether there is anything to add, else only the mark
-- is moved; careful: see LG004 above; type_ids: the ids in table mbti of the sixteen types, in the
-- order INTJ, INTP, INFJ ... ESFP; above_mean: which rule makes a favorite; typed: whether the MBTI
-- scores change, by add_i to add_p; genres, genre_sums, topics, topic_sums: ids, each once and in
-- rising order (else LG004), and what to add to their scores. All numbers are finite.
--
-- out: the id of the new history row, null if there was nothing to add.
--
-- The rules are those of the service: of each pair the first letter wins a tie. A favorite is what scores above
-- zero and at least the mean of what scores above zero; or, if above_mean, what scores more than the mean of
-- what does not score below zero. In floating point the mean of equal scores may come out greater or less than
-- each of them; hence it counts as no more than the greatest of them, or no less than the least. It is not what
-- avg makes, which also adds up squares: these are too large for a number long before the sum is.
--
-- The time of the history row is that of its statement: a transaction that began earlier may have
-- waited for another on the same profile, and the latest row must be the one that says what stands.
-- +goose StatementBegin
CREATE FUNCTION aggregator.apply(
    profile bigint, source_name text, source_epoch bigint,
    seen_ms bigint, seen_seq bigint, to_ms bigint, to_seq bigint, applied_events bigint,
    changed boolean, careful boolean, type_ids bigint[], above_mean boolean, typed boolean,
    add_i float8, add_e float8, add_s float8, add_n float8, add_t float8, add_f float8, add_j float8, add_p float8,
    genres bigint[], genre_sums float8[], topics bigint[], topic_sums float8[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    i float8; e float8; s float8; n float8; t float8; f float8; j float8; p float8; -- the MBTI scores as they stand then
    history bigint;
    updated bigint;
    created bigint;
    stands_at timestamptz;
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
        RETURN NULL;
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
    IF ARRAY[i, e, s, n, t, f, j, p] && '{Infinity,-Infinity,NaN}'::float8[] THEN
        PERFORM aggregator.refuse('22003', 'a score of cumulative_mbti_score is not a finite number', profile);
    END IF;

    IF careful THEN
        PERFORM aggregator.add_genres(profile, genres, genre_sums), aggregator.add_topics(profile, topics, topic_sums);
    ELSE
        -- All the sums of a profile are an array: to look into it for each score is cheaper than any join. Of
        -- ids in rising order width_bucket finds the place by binary search; that the id stands there is compared.
        UPDATE genre_score SET score = coalesce(score, 0) + genre_sums[width_bucket(genre_id, genres)]
        WHERE child_profile_id = profile AND genres[width_bucket(genre_id, genres)] = genre_id
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
        UPDATE topic_score SET score = coalesce(score, 0) + topic_sums[width_bucket(topic_id, topics)]
        WHERE child_profile_id = profile AND topics[width_bucket(topic_id, topics)] = topic_id
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

    stands_at = clock_timestamp(); -- within the INSERT it would cost a node of the plan
    INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
        i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
    SELECT c.id, stands_at, 'FEEDBACK', false,
        type_ids[1 + 8 * (i < e)::int + 4 * (n < s)::int + 2 * (t < f)::int + (j < p)::int], i, e, s, n, t, f, j, p
    FROM child_profile c WHERE c.id = profile
    RETURNING id INTO history;
    IF NOT FOUND THEN
        PERFORM aggregator.refuse('LG002', 'the child profile is gone', profile);
    END IF;
    IF above_mean THEN
        INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
        SELECT profile, history, g.genre_id
        FROM (
            SELECT genre_id, score::float8 AS score,
                greatest(sum(score::float8) OVER () / count(*) OVER (), min(score::float8) OVER ()) AS enough
            FROM genre_score WHERE child_profile_id = profile AND score >= 0 AND score < 'Infinity'::float8
        ) g
        WHERE g.score > g.enough;
        INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
        SELECT profile, history, g.topic_id
        FROM (
            SELECT topic_id, score::float8 AS score,
                greatest(sum(score::float8) OVER () / count(*) OVER (), min(score::float8) OVER ()) AS enough
            FROM topic_score WHERE child_profile_id = profile AND score >= 0 AND score < 'Infinity'::float8
        ) g
        WHERE g.score > g.enough;
    ELSE
        INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
        SELECT profile, history, g.genre_id
        FROM (
            SELECT genre_id, score::float8 AS score,
                least(sum(score::float8) OVER () / count(*) OVER (), max(score::float8) OVER ()) AS enough
            FROM genre_score WHERE child_profile_id = profile AND score > 0 AND score < 'Infinity'::float8
        ) g
        WHERE g.score >= g.enough;
        INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
        SELECT profile, history, g.topic_id
        FROM (
            SELECT topic_id, score::float8 AS score,
                least(sum(score::float8) OVER () / count(*) OVER (), max(score::float8) OVER ()) AS enough
            FROM topic_score WHERE child_profile_id = profile AND score > 0 AND score < 'Infinity'::float8
        ) g
        WHERE g.score >= g.enough;
    END IF;
    RETURN history;
END
$$;
-- +goose StatementEnd

-- Applies segments of many profiles one after the other, each in a transaction of its own.
--
-- in: as apply; each array has an element a profile, in rising order of their ids, but type_ids
-- and these: genres and topics hold the ids of all profiles, one profile after the other, and
-- first_genre and last_genre, first_topic and last_topic say which of them are a profile's, counted from 1.
--
-- It cannot be called within a transaction. An error ends it: what profiles before that one were
-- given is committed, as their marks say; those after it were not tried.
-- +goose StatementBegin
CREATE PROCEDURE aggregator.apply_each(
    source_name text, source_epoch bigint, type_ids bigint[], above_mean boolean,
    profiles bigint[], seen_ms bigint[], seen_seq bigint[], to_ms bigint[], to_seq bigint[], applied_events bigint[],
    changed boolean[], careful boolean[], typed boolean[],
    add_i float8[], add_e float8[], add_s float8[], add_n float8[], add_t float8[], add_f float8[], add_j float8[], add_p float8[],
    first_genre int[], last_genre int[], genres bigint[], genre_sums float8[],
    first_topic int[], last_topic int[], topics bigint[], topic_sums float8[]
)
LANGUAGE plpgsql AS $$
DECLARE
    w    record;
    history bigint; -- an assignment costs less than PERFORM
BEGIN
    FOR w IN
        SELECT profiles[k] AS id, seen_ms[k] AS old_ms, seen_seq[k] AS old_seq, to_ms[k] AS new_ms, to_seq[k] AS new_seq,
            applied_events[k] AS events, changed[k] AS changed, careful[k] AS careful, typed[k] AS typed,
            add_i[k] AS i, add_e[k] AS e, add_s[k] AS s, add_n[k] AS n, add_t[k] AS t, add_f[k] AS f, add_j[k] AS j, add_p[k] AS p,
            genres[first_genre[k] : last_genre[k]] AS genres, genre_sums[first_genre[k] : last_genre[k]] AS genre_sums,
            topics[first_topic[k] : last_topic[k]] AS topics, topic_sums[first_topic[k] : last_topic[k]] AS topic_sums
        FROM generate_series(1, cardinality(profiles)) k -- unnest would keep a list for each array
    LOOP
        history = aggregator.apply(w.id, source_name, source_epoch, w.old_ms, w.old_seq, w.new_ms, w.new_seq, w.events,
            w.changed, w.careful, type_ids, above_mean, w.typed, w.i, w.e, w.s, w.n, w.t, w.f, w.j, w.p,
            w.genres, w.genre_sums, w.topics, w.topic_sums);
        COMMIT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- Applies segments of many profiles in the transaction of the caller: all of them or none. What
-- comes out is as if apply had been called for each; what it refuses, it may refuse for another reason.
-- in: as apply_each.
-- +goose StatementBegin
CREATE FUNCTION aggregator.apply_together(
    source_name text, source_epoch bigint, type_ids bigint[], above_mean boolean,
    profiles bigint[], seen_ms bigint[], seen_seq bigint[], to_ms bigint[], to_seq bigint[], applied_events bigint[],
    changed boolean[], careful boolean[], typed boolean[],
    add_i float8[], add_e float8[], add_s float8[], add_n float8[], add_t float8[], add_f float8[], add_j float8[], add_p float8[],
    first_genre int[], last_genre int[], genres bigint[], genre_sums float8[],
    first_topic int[], last_topic int[], topics bigint[], topic_sums float8[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    updated bigint;
    created bigint;
BEGIN
    -- Rows are looked up by "= ANY (profiles)", and what is theirs by the place of the profile, which width_bucket
    -- finds by binary search: no join, so that there is only one plan, whatever is known of the size of the tables.
    IF profiles <> ARRAY(SELECT id FROM unnest(profiles) id ORDER BY id) THEN
        PERFORM aggregator.refuse('55000', 'the profiles are not in rising order', profiles[1]);
    END IF;
    UPDATE aggregator.mark SET
        position_ms = to_ms[width_bucket(child_profile_id, profiles)],
        position_seq = to_seq[width_bucket(child_profile_id, profiles)],
        applied = applied + applied_events[width_bucket(child_profile_id, profiles)]
    WHERE source = source_name AND child_profile_id = ANY (profiles) AND (position_ms, position_seq) <> (0, 0)
        AND position_ms = seen_ms[width_bucket(child_profile_id, profiles)]
        AND position_seq = seen_seq[width_bucket(child_profile_id, profiles)];
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated <> cardinality(profiles) THEN
        INSERT INTO aggregator.mark AS m (source, child_profile_id, position_ms, position_seq, applied)
        SELECT source_name, w.id, w.new_ms, w.new_seq, w.events
        FROM aggregator.checkpoint c,
            unnest(profiles, seen_ms, seen_seq, to_ms, to_seq, applied_events) w (id, old_ms, old_seq, new_ms, new_seq, events)
        WHERE c.source = source_name AND c.epoch = source_epoch AND (w.old_ms, w.old_seq) = (0, 0)
        ON CONFLICT (child_profile_id, source) DO UPDATE
        SET position_ms = excluded.position_ms, position_seq = excluded.position_seq, applied = m.applied + excluded.applied
        WHERE m.position_ms = 0 AND m.position_seq = 0;
        GET DIAGNOSTICS created = ROW_COUNT;
        IF updated + created <> cardinality(profiles) THEN
            PERFORM aggregator.refuse('LG001', 'a mark has moved', profiles[1]);
        END IF;
    END IF;

    IF NOT true = ANY (changed) THEN
        RETURN true;
    END IF;

    UPDATE cumulative_mbti_score SET
        i_score = coalesce(i_score, 0) + add_i[width_bucket(child_profile_id, profiles)],
        e_score = coalesce(e_score, 0) + add_e[width_bucket(child_profile_id, profiles)],
        s_score = coalesce(s_score, 0) + add_s[width_bucket(child_profile_id, profiles)],
        n_score = coalesce(n_score, 0) + add_n[width_bucket(child_profile_id, profiles)],
        t_score = coalesce(t_score, 0) + add_t[width_bucket(child_profile_id, profiles)],
        f_score = coalesce(f_score, 0) + add_f[width_bucket(child_profile_id, profiles)],
        j_score = coalesce(j_score, 0) + add_j[width_bucket(child_profile_id, profiles)],
        p_score = coalesce(p_score, 0) + add_p[width_bucket(child_profile_id, profiles)]
    WHERE child_profile_id = ANY (profiles) AND typed[width_bucket(child_profile_id, profiles)];
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated <> cardinality(array_positions(typed, true)) THEN
        INSERT INTO cumulative_mbti_score (child_profile_id, i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
        SELECT w.id, w.i, w.e, w.s, w.n, w.t, w.f, w.j, w.p
        FROM unnest(profiles, typed, add_i, add_e, add_s, add_n, add_t, add_f, add_j, add_p) w (id, yes, i, e, s, n, t, f, j, p)
        WHERE w.yes AND NOT EXISTS (SELECT FROM cumulative_mbti_score c WHERE c.child_profile_id = w.id OFFSET 0)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS created = ROW_COUNT;
        IF updated + created <> cardinality(array_positions(typed, true)) THEN
            PERFORM aggregator.refuse('LG004', 'a row of cumulative_mbti_score was not written', profiles[1]);
        END IF;
    END IF;

    -- All scores of a profile are read, and each is looked for among the profile's sums. That is
    -- cheaper than to look each sum up in the index. "OFFSET 0" keeps NOT EXISTS from becoming a join.
    WITH delta AS MATERIALIZED (
        SELECT w.id, genres[w.first : w.last] AS ids, genre_sums[w.first : w.last] AS sums
        FROM unnest(profiles, first_genre, last_genre) w (id, first, last) WHERE w.first <= w.last
    )
    UPDATE genre_score s SET score = coalesce(s.score, 0) + d.sums[width_bucket(s.genre_id, d.ids)]
    FROM delta d
    WHERE s.child_profile_id = d.id AND d.ids[width_bucket(s.genre_id, d.ids)] = s.genre_id
        AND (abs(s.score::float8) < 'Infinity'::float8) IS NOT FALSE;
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated <> cardinality(genres) THEN
        INSERT INTO genre_score (child_profile_id, genre_id, score)
        SELECT w.id, d.id, d.sum
        FROM unnest(profiles, first_genre, last_genre) w (id, first, last),
            unnest(genres[w.first : w.last], genre_sums[w.first : w.last]) d (id, sum)
        WHERE NOT EXISTS (SELECT FROM genre_score s WHERE s.child_profile_id = w.id AND s.genre_id = d.id OFFSET 0)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS created = ROW_COUNT;
        IF updated + created <> cardinality(genres) THEN
            PERFORM aggregator.refuse('LG004', 'a row of genre_score was not written', profiles[1]);
        END IF;
    END IF;
    WITH delta AS MATERIALIZED (
        SELECT w.id, topics[w.first : w.last] AS ids, topic_sums[w.first : w.last] AS sums
        FROM unnest(profiles, first_topic, last_topic) w (id, first, last) WHERE w.first <= w.last
    )
    UPDATE topic_score s SET score = coalesce(s.score, 0) + d.sums[width_bucket(s.topic_id, d.ids)]
    FROM delta d
    WHERE s.child_profile_id = d.id AND d.ids[width_bucket(s.topic_id, d.ids)] = s.topic_id
        AND (abs(s.score::float8) < 'Infinity'::float8) IS NOT FALSE;
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated <> cardinality(topics) THEN
        INSERT INTO topic_score (child_profile_id, topic_id, score)
        SELECT w.id, d.id, d.sum
        FROM unnest(profiles, first_topic, last_topic) w (id, first, last),
            unnest(topics[w.first : w.last], topic_sums[w.first : w.last]) d (id, sum)
        WHERE NOT EXISTS (SELECT FROM topic_score s WHERE s.child_profile_id = w.id AND s.topic_id = d.id OFFSET 0)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS created = ROW_COUNT;
        IF updated + created <> cardinality(topics) THEN
            PERFORM aggregator.refuse('LG004', 'a row of topic_score was not written', profiles[1]);
        END IF;
    END IF;

    WITH header AS (
        INSERT INTO child_personality_history (child_profile_id, created_at, history_created_type, is_deleted, mbti_id,
            i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score)
        SELECT p.id, clock_timestamp(), 'FEEDBACK', false,
            type_ids[1 + 8 * (m.i < m.e)::int + 4 * (m.n < m.s)::int + 2 * (m.t < m.f)::int + (m.j < m.p)::int],
            m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p
        FROM child_profile p CROSS JOIN LATERAL (
            SELECT coalesce(max(i_score), 0), coalesce(max(e_score), 0), coalesce(max(s_score), 0), coalesce(max(n_score), 0),
                coalesce(max(t_score), 0), coalesce(max(f_score), 0), coalesce(max(j_score), 0), coalesce(max(p_score), 0)
            FROM cumulative_mbti_score WHERE child_profile_id = p.id -- of which there may be none
        ) m (i, e, s, n, t, f, j, p)
        WHERE p.id = ANY (profiles) AND changed[width_bucket(p.id, profiles)]
            AND greatest(m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p) < 'Infinity'::float8
            AND least(m.i, m.e, m.s, m.n, m.t, m.f, m.j, m.p) > '-Infinity'::float8
        RETURNING child_profile_id, id
    ), favorite_genres AS (
        INSERT INTO favorite_genre (child_profile_id, history_id, genre_id)
        SELECT h.child_profile_id, h.id, g.genre_id
        FROM header h CROSS JOIN LATERAL (
            SELECT genre_id, ranked, least(sum(ranked) OVER () / count(*) OVER (), max(ranked) OVER ()) AS enough
            FROM (
                SELECT genre_id, CASE WHEN above_mean THEN -score::float8 ELSE score::float8 END AS ranked
                FROM genre_score
                WHERE child_profile_id = h.child_profile_id AND (score > 0 OR score = 0 AND above_mean)
                    AND score < 'Infinity'::float8
            ) s
        ) g
        WHERE (g.ranked >= g.enough) <> above_mean
    ), favorite_topics AS (
        INSERT INTO favorite_topic (child_profile_id, history_id, topic_id)
        SELECT h.child_profile_id, h.id, g.topic_id
        FROM header h CROSS JOIN LATERAL (
            SELECT topic_id, ranked, least(sum(ranked) OVER () / count(*) OVER (), max(ranked) OVER ()) AS enough
            FROM (
                SELECT topic_id, CASE WHEN above_mean THEN -score::float8 ELSE score::float8 END AS ranked
                FROM topic_score
                WHERE child_profile_id = h.child_profile_id AND (score > 0 OR score = 0 AND above_mean)
                    AND score < 'Infinity'::float8
            ) s
        ) g
        WHERE (g.ranked >= g.enough) <> above_mean
    )
    SELECT count(*) INTO created FROM header;
    IF created <> cardinality(array_positions(changed, true)) THEN
        PERFORM aggregator.refuse('LG002', 'a child profile is gone, or has scores that are not finite', profiles[1]);
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- A program without them writes the same rows with statements of its own.
INSERT INTO aggregator.schema_compatibility (version, works_with) VALUES (11, 9);

-- +goose Down
DELETE FROM aggregator.schema_compatibility WHERE version = 11;
DROP FUNCTION aggregator.apply_together;
DROP PROCEDURE aggregator.apply_each;
DROP FUNCTION aggregator.apply;
DROP FUNCTION aggregator.add_topics;
DROP FUNCTION aggregator.add_genres;
DROP FUNCTION IF EXISTS aggregator.as_stored; -- builds before 0.2.0 had none
DROP FUNCTION aggregator.refuse;
