-- Servers of MCP: what a project knows of them, which of their tools are frozen, and what its workflows name.

CREATE TABLE mcp_servers (
    server_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    canonical_url TEXT NOT NULL,
    -- Which credentials it wants, and in which headers: a list.
    credential_fields TEXT NOT NULL,
    -- The tools that it showed when it was asked last, in their canonical form, SHA-256 over it, the revision of MCP that it
    -- spoke then, and when that was.
    discovered TEXT,
    discovered_hash TEXT,
    protocol_version TEXT,
    discovered_at BIGINT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX mcp_servers_named ON mcp_servers (tenant_id, project_id, name);
CREATE UNIQUE INDEX mcp_servers_at ON mcp_servers (tenant_id, project_id, canonical_url);
CREATE INDEX mcp_servers_listed ON mcp_servers (tenant_id, project_id, created_at, server_id);

CREATE TABLE mcp_server_versions (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    server_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- In their canonical form, and SHA-256 over it.
    tools TEXT NOT NULL,
    tools_hash TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, server_id, version)
);

CREATE TABLE mcp_instances (
    instance_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    server_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- The config profile that calls use.
    active_profile TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX mcp_instances_named ON mcp_instances (tenant_id, project_id, name);
CREATE INDEX mcp_instances_of_server ON mcp_instances (tenant_id, project_id, server_id);
CREATE INDEX mcp_instances_listed ON mcp_instances (tenant_id, project_id, created_at, instance_id);

CREATE TABLE mcp_config_profiles (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Where the value of each credential is kept, by the server's fields: one document. It holds no value.
    bindings TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, instance_id, name)
);

-- Authorizations that are under way: from the start to the way back of a browser.
CREATE TABLE mcp_authorizations (
    state_hash TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    server_id TEXT NOT NULL,
    -- Who began it, and finishes it.
    user_id TEXT NOT NULL,
    -- What the connection is to be called.
    display_name TEXT NOT NULL,
    -- What the way back needs: one document, sealed.
    sealed TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mcp_authorizations_over ON mcp_authorizations (expires_at);
