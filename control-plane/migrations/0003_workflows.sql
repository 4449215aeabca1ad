-- Workflows as authors see them: a name and a draft. What is published of it is the engine's.

CREATE TABLE drafts (
    workflow_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The name in lower case: the two databases fold letters differently.
    name_folded TEXT NOT NULL,
    -- A JSON string: people write it, and a text column of PostgreSQL takes no NUL.
    description TEXT NOT NULL,
    -- Raised by every change of the draft: what was read before is known to be stale.
    revision BIGINT NOT NULL,
    -- Of the newest version; 0 before the first.
    published_version BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    archived_at BIGINT,
    -- Documents, as they were given. Last, since SQLite walks through what is long to reach what lies behind it.
    run_setup TEXT,
    graph TEXT NOT NULL
);
CREATE INDEX drafts_listed ON drafts (tenant_id, project_id, created_at, workflow_id);
