-- The roles of the aggregator in PostgreSQL, each with what it needs and no more.
--
--   psql -v ON_ERROR_STOP=1 -1 -f roles.sql app
--
-- Run it in the application's database, as a superuser, or as a role that may create roles
-- and owns the database and the application's tables. It may be run again at any time, and
-- before or after aggregator migrate up. Before, it warns of tables that are still missing:
-- run it again after. If the application's tables are in another schema than public:
-- PGOPTIONS='-c search_path=app' psql ...
--
--   aggregator_owner    owns the schema aggregator; nobody logs in as it
--   aggregator_migrate  runs aggregator migrate, and acts as aggregator_owner
--   aggregator_daemon   runs aggregator run, drain, search-text, dead, verify, and checkpoint, of which
--                       reset forgets by updates what it has no right to delete
--   aggregator_purge    runs aggregator purge: the only one that deletes history. For a daemon
--                       that purges by schedule: GRANT aggregator_purge TO aggregator_daemon
--   aggregator_reader   reads: aggregator history, runs, status, checkpoint show; Grafana
--
-- For a fast search in book.search_text, before aggregator migrate up:
--   CREATE EXTENSION IF NOT EXISTS pg_trgm
-- which the owner of the database may do, since PostgreSQL 13. Without it aggregator doctor warns.
--
-- No role has a password yet. Give them one each with \password aggregator_daemon, or let
-- pg_hba.conf ask for a certificate.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY '{aggregator_owner,aggregator_migrate,aggregator_daemon,aggregator_purge,aggregator_reader}'::text[] LOOP
        IF to_regrole(role) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
    END LOOP;
    -- Only a superuser may give things to a role that it is not a member of.
    -- From PostgreSQL 16 on, to have made it is to be a member, but not one who may act as it.
    IF NOT pg_has_role(current_user, 'aggregator_owner', 'USAGE') THEN
        EXECUTE format('GRANT aggregator_owner TO %I', current_user);
    END IF;
    IF NOT pg_has_role('aggregator_migrate', 'aggregator_owner', 'MEMBER') THEN
        GRANT aggregator_owner TO aggregator_migrate;
    END IF;
END
$$;

ALTER ROLE aggregator_owner NOLOGIN;
ALTER ROLE aggregator_migrate LOGIN;
ALTER ROLE aggregator_daemon LOGIN;
ALTER ROLE aggregator_purge LOGIN;
ALTER ROLE aggregator_reader LOGIN;

-- What the daemon and the purge ask for in each session by themselves, and cannot through a
-- pooler in transaction mode. Chunks are made durable by their checkpoints, which commit
-- synchronously; what a crash takes back of a purge is purged again.
DO $$
DECLARE
    role    text;
    setting text;
BEGIN
    FOREACH role IN ARRAY '{aggregator_daemon,aggregator_purge}'::text[] LOOP
        FOREACH setting IN ARRAY ARRAY[
            'synchronous_commit = off', 'lock_timeout = 5000', 'statement_timeout = 30000',
            'idle_in_transaction_session_timeout = 60000', 'plan_cache_mode = force_generic_plan', 'enable_seqscan = off',
            'enable_bitmapscan = off', 'enable_hashjoin = off', 'enable_mergejoin = off', 'jit = off',
            'row_security = off', 'default_transaction_isolation = ''read committed'''] LOOP
            EXECUTE format('ALTER ROLE %I SET %s', role, setting);
        END LOOP;
    END LOOP;
END
$$;

-- The schemas in which this session looks for names, that of the application's tables first. A session of
-- ours finds it by itself; through a pooler in transaction mode it has what the role has.
DO $$
DECLARE
    role text;
    path text := (SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
        FROM unnest(current_schemas(false)) WITH ORDINALITY s (name, place)
        WHERE name NOT IN ('aggregator', 'aggregator_views', 'pg_catalog'));
BEGIN
    IF path IS NOT NULL THEN
        FOREACH role IN ARRAY '{aggregator_daemon,aggregator_purge,aggregator_reader}'::text[] LOOP
            EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = aggregator_views, %s', role, current_database(), path);
        END LOOP;
    END IF;
END
$$;

-- Whatever a migration makes belongs to the owner, not to who happened to run it.
ALTER ROLE aggregator_migrate SET role = aggregator_owner;

-- The schema of the aggregator, with all that an earlier migration may have made as
-- another role.
DO $$
DECLARE
    thing record;
BEGIN
    IF to_regnamespace('aggregator') IS NULL THEN
        CREATE SCHEMA aggregator AUTHORIZATION aggregator_owner;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'aggregator' AND nspowner = 'aggregator_owner'::regrole) THEN
        ALTER SCHEMA aggregator OWNER TO aggregator_owner;
    END IF;
    -- Tables take along their indexes and the sequences of their columns.
    FOR thing IN
        SELECT c.oid::regclass AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind
        FROM pg_class c
        WHERE c.relnamespace = 'aggregator'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND c.relowner <> 'aggregator_owner'::regrole
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO aggregator_owner', thing.kind, thing.name);
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = 'aggregator'::regnamespace AND p.proowner <> 'aggregator_owner'::regrole
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO aggregator_owner', thing.name);
    END LOOP;
END
$$;

-- What the schema holds now, and what later migrations will add. Functions are everybody's
-- unless one says otherwise.
GRANT USAGE ON SCHEMA aggregator TO aggregator_daemon, aggregator_purge, aggregator_reader;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA aggregator TO aggregator_daemon;
GRANT SELECT ON ALL TABLES IN SCHEMA aggregator TO aggregator_purge, aggregator_reader;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA aggregator FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA aggregator TO aggregator_daemon;
ALTER DEFAULT PRIVILEGES FOR ROLE aggregator_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE aggregator_owner IN SCHEMA aggregator
    GRANT SELECT, INSERT, UPDATE ON TABLES TO aggregator_daemon;
ALTER DEFAULT PRIVILEGES FOR ROLE aggregator_owner IN SCHEMA aggregator
    GRANT SELECT ON TABLES TO aggregator_purge, aggregator_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE aggregator_owner IN SCHEMA aggregator
    GRANT EXECUTE ON ROUTINES TO aggregator_daemon;

-- Tables of the application with other names or another form than migration 1 gives them. The views by which
-- they are adapted are in a schema of their own, and have the rights of their owner, who therefore needs them on
-- the tables. What is a table, and of which form, aggregator migrate up --dry-run says.
DO $$
DECLARE
    app      text := (SELECT name FROM unnest(current_schemas(false)) WITH ORDINALITY s (name, place)
        WHERE name NOT IN ('aggregator', 'aggregator_views') ORDER BY place LIMIT 1);
    adapted  regclass[];
    thing    regclass;
BEGIN
    SELECT array_agg(c.oid::regclass) INTO adapted
    FROM (VALUES
        ('genre', 'id name'), ('topic', 'id name'), ('mbti', 'id mbti'), ('book', 'id genre_id title author publisher'),
        ('book_topic', 'book_id topic_id'), ('book_mbti', 'book_id mbti_id'), ('child_profile', 'id'),
        ('genre_score', 'child_profile_id genre_id score'), ('topic_score', 'child_profile_id topic_id score'),
        ('cumulative_mbti_score', 'child_profile_id i_score e_score s_score n_score t_score f_score j_score p_score'),
        ('child_personality_history', 'id child_profile_id created_at history_created_type is_deleted mbti_id i_score'),
        ('favorite_genre', 'child_profile_id history_id genre_id'), ('favorite_topic', 'child_profile_id history_id topic_id'),
        ('mbti_score', 'none of these') -- its being there says enough
    ) n (name, columns)
    JOIN pg_class c ON replace(lower(c.relname), '_', '') = replace(n.name, '_', '') AND c.relkind IN ('r', 'p')
        AND c.relnamespace = to_regnamespace(quote_ident(app))
    WHERE c.relname <> n.name
        OR EXISTS (SELECT FROM unnest(string_to_array(n.columns, ' ')) w WHERE NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w AND NOT a.attisdropped))
        OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = 'history_created_type'
            AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))
        OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = 'id'
            AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND n.name ~ '(score|history|favorite)');
    IF adapted IS NULL THEN
        RETURN;
    END IF;
    IF to_regnamespace('aggregator_views') IS NULL THEN
        CREATE SCHEMA aggregator_views AUTHORIZATION aggregator_owner;
    END IF;
    GRANT USAGE ON SCHEMA aggregator_views TO PUBLIC;
    FOREACH thing IN ARRAY adapted LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON %s TO aggregator_owner', thing);
    END LOOP;
    thing := to_regclass(quote_ident(app) || '.child_personality_history');
    IF thing IS NOT NULL THEN -- the views of favorites look into it
        EXECUTE format('GRANT SELECT ON %s TO aggregator_owner', thing);
    END IF;
    -- The sequences that new rows of these tables take their ids from: by a default, or as an object mapper does.
    FOR thing IN
        SELECT DISTINCT s.oid::regclass
        FROM pg_class c JOIN pg_class s ON s.relkind = 'S' AND s.relnamespace = c.relnamespace
        CROSS JOIN replace(lower(c.relname), '_', '') plain
        WHERE c.oid = ANY (adapted) AND plain ~ '(score|history|favorite)' AND (
            EXISTS (SELECT FROM pg_depend d JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                WHERE f.adrelid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid)
            OR replace(lower(s.relname), '_', '') IN (plain || 'seq', plain || 'idseq', 'hibernatesequence')
                AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND lower(a.attname) = 'id'
                    AND NOT a.attisdropped AND NOT a.atthasdef AND a.attidentity = ''))
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO aggregator_owner, aggregator_daemon', thing);
    END LOOP;
END
$$;

-- The application's tables, whoever owns them, as far as they are there; and what single
-- tables of ours need beyond the above.
DO $$
DECLARE
    missing text[] := '{}';
    item    text;
    serial  text;
    base    regclass; -- of a view of ours
    app     text := (SELECT n FROM unnest(current_schemas(false)) WITH ORDINALITY s (n, place)
        WHERE n NOT IN ('aggregator', 'aggregator_views') ORDER BY place LIMIT 1);
    path    text := current_setting('search_path');
    -- table, privileges, role
    rights  text[] := ARRAY[
        -- The daemon knows of a child that it exists, and not even its name.
        'child_profile: SELECT (id): aggregator_daemon, aggregator_reader',
        'genre, topic, mbti, book, book_topic, book_mbti: SELECT: aggregator_daemon, aggregator_reader',
        'book: UPDATE (search_text): aggregator_daemon',
        'genre_score, topic_score, cumulative_mbti_score: SELECT, INSERT, UPDATE: aggregator_daemon',
        'genre_score, topic_score, cumulative_mbti_score: SELECT: aggregator_reader',
        'child_personality_history, favorite_genre, favorite_topic: SELECT, INSERT: aggregator_daemon',
        'child_personality_history, favorite_genre, favorite_topic: SELECT: aggregator_reader',
        'child_personality_history, favorite_genre, favorite_topic: SELECT, DELETE: aggregator_purge',
        -- To lock a row, so that nobody restores it meanwhile, takes the right to update a column.
        'child_personality_history: UPDATE (deleted_at): aggregator_purge',
        'aggregator.thinning, aggregator.dead_letter_removed: INSERT, UPDATE: aggregator_purge',
        'aggregator.journal: DELETE: aggregator_purge',
        -- To empty those of a child that is to be erased, and to remove those that were settled long ago.
        'aggregator.dead_letter: UPDATE, DELETE: aggregator_purge',
        -- Giving a lease up removes it, an instance that leaves its row, and time an old run; everything
        -- else of ours is there to stay.
        'aggregator.lease, aggregator.member, aggregator.run: DELETE: aggregator_daemon',
        'aggregator.lease, aggregator.run: INSERT, UPDATE, DELETE: aggregator_purge',
        -- For the migration: its triggers tell the daemon of changes in the catalogue, and
        -- it sees to it that the sixteen types are there. Nothing needs these two rights
        -- once it is through.
        'book, book_topic, book_mbti, child_profile: TRIGGER: aggregator_owner',
        'mbti: SELECT, INSERT: aggregator_owner'];
    tables  text[];
    name    text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO aggregator_owner, aggregator_daemon, aggregator_purge, aggregator_reader', app);
    -- CREATE TABLE IF NOT EXISTS asks for it also where there is nothing to do.
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO aggregator_owner', app);
    PERFORM set_config('search_path', 'aggregator_views, ' || path, true);
    FOREACH item IN ARRAY rights LOOP
        tables := string_to_array(split_part(item, ': ', 1), ', ');
        FOREACH name IN ARRAY tables LOOP
            IF to_regclass(name) IS NULL THEN
                missing := missing || name;
                CONTINUE;
            END IF;
            base := coalesce((SELECT to_regclass(split_part(obj_description(v.oid, 'pg_class'), ', adapted by ', 1)) FROM pg_class v
                WHERE v.oid = to_regclass(name) AND v.relnamespace = to_regnamespace('aggregator_views')), to_regclass(name));
            BEGIN
                EXECUTE format('GRANT %s ON %s TO %s', split_part(item, ': ', 2),
                    CASE split_part(item, ': ', 2) WHEN 'TRIGGER' THEN base ELSE to_regclass(name) END, split_part(item, ': ', 3));
            EXCEPTION WHEN undefined_column THEN -- aggregator migrate up adds it
                missing := missing || (name || ' ' || split_part(item, ': ', 2));
                CONTINUE;
            END;
            -- A column that is not an identity but a serial takes its number as the inserter. How far an identity
            -- has come is for doctor to read.
            serial := NULL;
            IF split_part(item, ': ', 2) ~ 'INSERT' AND EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = base AND attname = 'id') THEN
                serial := pg_get_serial_sequence(base::text, 'id');
            END IF;
            IF serial IS NOT NULL THEN
                EXECUTE format('GRANT %s ON SEQUENCE %s TO %s',
                    (SELECT CASE attidentity WHEN '' THEN 'USAGE' ELSE 'SELECT' END FROM pg_attribute
                        WHERE attrelid = base AND attname = 'id'), serial, split_part(item, ': ', 3));
            END IF;
        END LOOP;
    END LOOP;
    PERFORM set_config('search_path', path, true);
    IF missing <> '{}' THEN
        RAISE WARNING 'these tables, or columns of them, do not exist yet: %; run this again after: aggregator migrate up',
            (SELECT string_agg(DISTINCT m, ', ') FROM unnest(missing) m);
    END IF;
    -- The versions of the schema are for the migration to write, and with which programs they work.
    FOREACH name IN ARRAY '{aggregator.schema_migrations,aggregator.schema_compatibility}'::text[] LOOP
        IF to_regclass(name) IS NOT NULL THEN
            EXECUTE format('REVOKE INSERT, UPDATE ON %s FROM aggregator_daemon', to_regclass(name));
        END IF;
    END LOOP;
END
$$;
