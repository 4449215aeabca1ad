-- How many bytes the events of a tenant's runs take. Only the sum over a tenant's rows means something: processes write to
-- different ones, so that they seldom wait for each other. Every commit updates one, in place while its page has room.
CREATE TABLE tenant_storage (
    tenant_id TEXT NOT NULL,
    shard BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, shard)
) WITH (fillfactor = 50);

INSERT INTO tenant_storage (tenant_id, shard, bytes)
    SELECT r.tenant_id, 0, SUM(octet_length(e.body)) FROM runs r JOIN run_events e ON e.run_id = r.run_id
    GROUP BY r.tenant_id;
