-- Runs as journals. Numbers and points in time (microseconds) are BIGINT, all else is TEXT; documents are JSON.

CREATE TABLE workflows (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    newest_version BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, workflow_id)
) WITHOUT ROWID;

-- Canonical documents by their SHA-256. Tenants share none, so that deleting a tenant deletes its graphs.
CREATE TABLE graphs (
    tenant_id TEXT NOT NULL,
    graph_hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (tenant_id, graph_hash)
);

CREATE TABLE versions (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    graph_hash TEXT NOT NULL,
    -- A JSON string: people write it, and a text column of PostgreSQL takes no NUL.
    changelog TEXT,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, workflow_id, version)
) WITHOUT ROWID;

CREATE TABLE runs (
    run_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    awaiting TEXT,
    priority BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    error TEXT,
    last_seq BIGINT NOT NULL,
    parent_run_id TEXT,
    -- When the run wants to be claimed: now, at its next timer, or never (it waits for a signal).
    wake_at BIGINT,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    lease_expires_at BIGINT,
    -- Signals ever sent to it, and how many of them its journal covers.
    inbox BIGINT NOT NULL,
    inbox_read BIGINT NOT NULL
);
CREATE INDEX runs_listed ON runs (tenant_id, project_id, started_at, run_id);
-- A run that a node takes up at once and finishes never enters this index.
CREATE INDEX runs_due ON runs (tenant_id, wake_at) WHERE wake_at IS NOT NULL AND lease_owner IS NULL;
CREATE INDEX runs_leased ON runs (tenant_id) WHERE lease_owner IS NOT NULL;

-- A row holds the events that were committed together, as a JSON list.
CREATE TABLE run_events (
    run_id TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, first_seq)
);
CREATE TRIGGER run_events_append_only BEFORE UPDATE ON run_events
BEGIN
    SELECT RAISE(ABORT, 'run_events is append only');
END;

CREATE TABLE signals (
    run_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE tasks (
    run_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    due BIGINT,
    -- Step, kind and payload.
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, task_id)
);
CREATE INDEX tasks_listed ON tasks (tenant_id, project_id, created_at, task_id);
