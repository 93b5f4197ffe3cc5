-- What the index needs by which parts of words are found in book.search_text: pg_trgm is a
-- part of PostgreSQL that is not installed everywhere and that not everybody may add to a
-- database. All works without it; a search then reads all books. The index itself is on a
-- table of the application, which may be somebody else's: see index.go. aggregator doctor
-- says if there is none, and what its owner can do.

-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
            AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'book'::regclass), 'USAGE') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'no index to search books by: %', SQLERRM;
END
$$;
-- +goose StatementEnd
