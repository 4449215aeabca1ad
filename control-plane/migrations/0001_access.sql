-- Who may do what. Numbers and points in time (microseconds) are BIGINT, all else is TEXT; both databases take this text.
-- Secrets (passwords, tokens, sessions) are kept as hashes only.

CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY,
    -- In lower case.
    email TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    -- Argon2id, in PHC form; none for those who sign in elsewhere only.
    password_hash TEXT,
    verified_at BIGINT,
    disabled_at BIGINT,
    created_at BIGINT NOT NULL
);

-- Accounts at OpenID Connect issuers: the subject, never the address, says who it is.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_of_user ON identities (user_id);

-- One-time tokens that went out by mail.
CREATE TABLE mail_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    -- verify or reset; void: none went out, for an address that a stranger asked about
    purpose TEXT NOT NULL,
    email TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mail_tokens_over ON mail_tokens (expires_at);

CREATE TABLE sessions (
    session_hash TEXT NOT NULL PRIMARY KEY,
    -- What lists and revocations name; says nothing about the cookie.
    session_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id, created_at);

-- Sign-ins at an issuer that are under way. What is secret of them is derived from a cookie of the browser.
CREATE TABLE oauth_attempts (
    state_hash TEXT NOT NULL PRIMARY KEY,
    browser_hash TEXT NOT NULL,
    -- The account that the issuer's is to be linked to; none to sign in.
    link_user_id TEXT,
    return_to TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX oauth_attempts_over ON oauth_attempts (expires_at);

CREATE TABLE tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- 1: only addresses of verified domains may be members.
    restrict_domains BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The head of the audit log's chain.
    audit_seq BIGINT NOT NULL,
    audit_hash TEXT NOT NULL
);

CREATE TABLE memberships (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deactivated_at BIGINT,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_of_user ON memberships (user_id, tenant_id);

CREATE TABLE projects (
    project_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    -- public or private
    visibility TEXT NOT NULL,
    -- 1: a version that asks for more than the one in use needs an approval.
    require_grant_approval BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    archived_at BIGINT,
    UNIQUE (tenant_id, slug)
);

CREATE TABLE project_members (
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, user_id)
);

CREATE TABLE invites (
    invite_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    accepted_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX invites_of_tenant ON invites (tenant_id, invite_id);

CREATE TABLE domains (
    tenant_id TEXT NOT NULL,
    domain TEXT NOT NULL,
    -- What the DNS TXT record has to hold.
    challenge TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    verified_at BIGINT,
    PRIMARY KEY (tenant_id, domain)
);
-- Many may claim a domain; it is one's.
CREATE UNIQUE INDEX domains_verified ON domains (domain) WHERE verified_at IS NOT NULL;

CREATE TABLE pats (
    pat_id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- None: every project that its owner may enter.
    project_id TEXT,
    name TEXT NOT NULL,
    -- The last characters of the token, for people to tell tokens apart.
    hint TEXT NOT NULL,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT,
    -- The token with which it was made, and with which it is revoked; none for a session.
    made_by_pat TEXT
);
CREATE INDEX pats_of_user ON pats (tenant_id, user_id, pat_id);
CREATE INDEX pats_made_by ON pats (made_by_pat) WHERE made_by_pat IS NOT NULL;

-- What was done, by whom, from where: append only. Each row's hash covers the row before.
CREATE TABLE audit_log (
    tenant_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    user_id TEXT,
    pat_id TEXT,
    address TEXT,
    request_id TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    details TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
