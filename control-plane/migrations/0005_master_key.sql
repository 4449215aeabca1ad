-- Which master key the sealed secrets of this database belong to. The keys themselves are elsewhere.

CREATE TABLE master_key (
    -- 1: there is one row at most.
    only_row BIGINT NOT NULL PRIMARY KEY,
    key_id TEXT NOT NULL,
    -- Sealed under that key: another one with the same name does not open it.
    canary TEXT NOT NULL,
    since BIGINT NOT NULL
);
