-- What starts runs besides people: webhooks and schedules.

CREATE TABLE webhook_subscriptions (
    subscription_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The token that deliveries must carry, and in whose name runs are started.
    pat_id TEXT NOT NULL,
    -- 1: that token was made for this subscription, and ends with it.
    made_pat BIGINT NOT NULL,
    -- The token by which it was made or changed last, and without which it starts nothing; none for a session.
    by_pat TEXT,
    -- Signing secrets, sealed: the current one, and the one before while it is still accepted.
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_valid_until BIGINT,
    extras TEXT NOT NULL,
    -- digest or none
    replay TEXT NOT NULL,
    require_timestamp BIGINT NOT NULL,
    is_enabled BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX webhook_subscriptions_listed ON webhook_subscriptions (tenant_id, project_id, created_at, subscription_id);

CREATE TABLE schedules (
    schedule_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    -- trigger_payload, trigger_steps, excluded_step_ids: one document.
    start_params TEXT NOT NULL,
    -- skip, queue or allow
    overlap TEXT NOT NULL,
    catch_up BIGINT NOT NULL,
    is_enabled BIGINT NOT NULL,
    -- The due time that is to be worked on next. Only a compare-and-set moves it.
    next_due BIGINT NOT NULL,
    -- A due time that waits for the run before it to end.
    queued_due BIGINT,
    -- The last due time that was worked on, and the last run that was started.
    last_due BIGINT,
    last_run_id TEXT,
    -- Why the last due time started none.
    last_error TEXT,
    created_by TEXT NOT NULL,
    -- In whose name runs are started: who made or changed it last.
    owner_id TEXT NOT NULL,
    -- The token by which they did, and without which it starts nothing; none for a session.
    by_pat TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX schedules_listed ON schedules (tenant_id, project_id, workflow_id, created_at, schedule_id);
CREATE INDEX schedules_due ON schedules (next_due) WHERE is_enabled = 1;
CREATE INDEX schedules_queued ON schedules (queued_due) WHERE queued_due IS NOT NULL;
