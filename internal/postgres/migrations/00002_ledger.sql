-- What has been settled. A position is that of an entry in a Redis stream, its two
-- halves as Redis has them; a source is the name of the stream's key.
--
-- The schema aggregator is there already: the table of versions is in it. To ask for it
-- here would need the right to create schemas, which the role that migrates has not.

-- +goose Up
-- A mark is moved in the very transaction that applies a profile's events, and names
-- the last of them. It has no foreign key: an unknown profile needs one too.
CREATE TABLE aggregator.mark (
    child_profile_id bigint NOT NULL,
    source           text   NOT NULL,
    position_ms      bigint NOT NULL,
    position_seq     bigint NOT NULL,
    applied          bigint NOT NULL, -- events applied so far
    PRIMARY KEY (child_profile_id, source)
) WITH (fillfactor = 50);

-- Every entry up to the checkpoint is settled, and durably so.
CREATE TABLE aggregator.checkpoint (
    source       text PRIMARY KEY,
    position_ms  bigint NOT NULL,
    position_seq bigint NOT NULL,
    base         bigint NOT NULL, -- entries that the stream had been given before we began
    entries      bigint NOT NULL, -- entries that it had been given up to the position
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- An entry that could not be applied, kept for a person to look at.
CREATE TABLE aggregator.dead_letter (
    source           text   NOT NULL,
    position_ms      bigint NOT NULL,
    position_seq     bigint NOT NULL,
    child_profile_id bigint,
    book_id          bigint,
    reason           text   NOT NULL,
    sqlstate         text,
    detail           text   NOT NULL DEFAULT '',
    payload          bytea  NOT NULL, -- the bytes as they came
    payload_form     text   NOT NULL  -- event: the text of an event; entry: all fields of an entry, in the Redis protocol
        CHECK (payload_form IN ('event', 'entry')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, position_ms, position_seq)
);

-- Fails the transaction with the SQLSTATE code unless the condition holds. It lets a
-- pipelined statement refuse its transaction without a round trip.
-- +goose StatementBegin
CREATE FUNCTION aggregator.require(holds boolean, code text, message text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END IF;
END
$$;
-- +goose StatementEnd

-- Tells the daemon to forget what it remembers of books or profiles. Once per
-- statement, and only for changes that it would see: a book or profile that it does not
-- know is never remembered as missing, so that inserting one needs no word.
-- +goose StatementBegin
CREATE FUNCTION aggregator.catalogue_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('aggregator_catalogue', TG_ARGV[0]);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER aggregator_changed AFTER UPDATE OF genre_id OR DELETE OR TRUNCATE ON book
    FOR EACH STATEMENT EXECUTE FUNCTION aggregator.catalogue_changed('book');
CREATE TRIGGER aggregator_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON book_topic
    FOR EACH STATEMENT EXECUTE FUNCTION aggregator.catalogue_changed('book');
CREATE TRIGGER aggregator_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON book_mbti
    FOR EACH STATEMENT EXECUTE FUNCTION aggregator.catalogue_changed('book');
CREATE TRIGGER aggregator_changed AFTER DELETE OR TRUNCATE ON child_profile
    FOR EACH STATEMENT EXECUTE FUNCTION aggregator.catalogue_changed('child_profile');
