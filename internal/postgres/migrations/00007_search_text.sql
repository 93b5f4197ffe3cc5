-- An index by which parts of words are found in book.search_text, where it may be made: pg_trgm
-- is a part of PostgreSQL that is not installed everywhere and that not everybody may add to a
-- database, and an index is for the owner of the table to make. All works without it; a search
-- then reads all books. aggregator doctor says so, and what its owner can do.

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    home text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        RETURN;
    END IF;
    -- The application may have made one.
    IF EXISTS (SELECT FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[]) AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops')
            WHERE i.indrelid = 'book'::regclass) THEN
        RETURN;
    END IF;
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    SELECT n.nspname INTO home FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm';
    EXECUTE format('CREATE INDEX book_search_text_trgm ON book USING gin (search_text %I.gin_trgm_ops)', home);
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'no index to search books by: %', SQLERRM;
END
$$;
-- +goose StatementEnd
