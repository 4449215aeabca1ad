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
    -- The version in use: the newest one that is approved; 0 before the first.
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

-- Versions that ask for more than the one in use did, published where that needs an approval. Any other version has no row,
-- and is approved by being published.
CREATE TABLE version_approvals (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- pending, approved or rejected
    state TEXT NOT NULL,
    -- What it asks for newly, as it was published: a JSON list.
    new_grants TEXT NOT NULL,
    decided_by TEXT,
    decided_at BIGINT,
    comment TEXT,
    PRIMARY KEY (tenant_id, project_id, workflow_id, version)
);
