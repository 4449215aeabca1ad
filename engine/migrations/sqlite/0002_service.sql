-- What a service needs of its runs: who started them and how, keys that make a start happen once, lists that stay quick,
-- and how much of it all a tenant keeps.

-- Rows from before were started by hand or by another run; nobody could name a user yet.
ALTER TABLE runs ADD COLUMN trigger_type TEXT NOT NULL DEFAULT 'manual';
ALTER TABLE runs ADD COLUMN user_id TEXT;
-- The token with which they did.
ALTER TABLE runs ADD COLUMN pat_id TEXT;
-- A JSON string: callers write it, and a text column of PostgreSQL takes no NUL.
ALTER TABLE runs ADD COLUMN external_user_id TEXT;
UPDATE runs SET trigger_type = 'workflow_call' WHERE parent_run_id IS NOT NULL;

CREATE INDEX runs_of_workflow ON runs (tenant_id, project_id, workflow_id, started_at, run_id);
-- The unfinished ones of a tenant (finished_at is null) and the ones that finished long ago, in one.
CREATE INDEX runs_finished ON runs (finished_at, tenant_id);
CREATE INDEX runs_children ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

-- A start under a key happens once as long as the key is kept. The name is a JSON string, because callers choose it.
CREATE TABLE start_keys (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- Of what was to be started: a repeat under the same key may ask for something else.
    digest TEXT NOT NULL,
    taken_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, name)
);
CREATE INDEX start_keys_expiring ON start_keys (expires_at);

-- The inbox: the open questions of a project, the oldest first, however many are answered.
CREATE INDEX tasks_inbox ON tasks (tenant_id, project_id, status, created_at, task_id);
