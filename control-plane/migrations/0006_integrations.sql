-- What workflows reach: credentials, and the keys under which they are sealed.

-- Keys of workspaces, each sealed under the master key: what a workspace keeps is sealed under its own.
CREATE TABLE data_keys (
    tenant_id TEXT NOT NULL,
    -- Names the key and says nothing about it.
    key_id TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);

CREATE TABLE connections (
    connection_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    provider TEXT NOT NULL,
    service TEXT NOT NULL,
    -- Sealed values by their names: one document.
    credentials TEXT NOT NULL,
    -- Where the values may be sent: a list.
    allowed_hosts TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- The access that it holds, where it was authorized: one document without secrets, and one with them, sealed.
    granted TEXT,
    granted_sealed TEXT,
    -- Goes up with each new token: who renews writes where it is what it was.
    granted_turn BIGINT NOT NULL,
    -- Until when one node has the renewal to itself.
    renewing_until BIGINT
);
CREATE UNIQUE INDEX connections_named ON connections (tenant_id, project_id, display_name);
CREATE INDEX connections_listed ON connections (tenant_id, project_id, created_at, connection_id);

CREATE TABLE vault_entries (
    tenant_id TEXT NOT NULL,
    path TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    allowed_hosts TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, path, version)
);

-- Who is asked for language models, and with which key.
CREATE TABLE providers (
    provider_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    vendor TEXT NOT NULL,
    base_url TEXT NOT NULL,
    -- Sealed; nothing where the server wants no key.
    api_key TEXT,
    -- Names: a list.
    models TEXT NOT NULL,
    is_enabled BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX providers_named ON providers (tenant_id, project_id, name);
CREATE INDEX providers_listed ON providers (tenant_id, project_id, created_at, provider_id);
