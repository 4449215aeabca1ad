// The client that the conformance suite of MCP tries where a server wants OAuth: registers the server at $AGENTRUNTIME_URL, opens
// the page where access is granted, comes back from there, asks for the tools and calls one. The suite gives the server's
// address as the last argument, and judges what it saw: all of it may be refused.
const [base, token] = [process.env.AGENTRUNTIME_URL, process.env.AGENTRUNTIME_TOKEN];
const server = process.argv.at(-1);
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const authorization = { authorization: `Bearer ${token}` };

async function ask(method, path, body) {
  const headers = { ...authorization, 'content-type': 'application/json' };
  const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  console.log(method, path, answer.status, text);
  if (!answer.ok) throw Object.assign(new Error(text), { problem: JSON.parse(text) });
  return text.startsWith('{') ? JSON.parse(text) : text;
}

async function authorize(path, wanted) {
  const begun = await ask('POST', `${path}/authorize`, { display_name: 'c', ...wanted });
  if (begun.connection) return begun.connection.id;
  // The suite's page grants access to everybody, and sends on.
  const page = await fetch(begun.authorization_url, { redirect: 'manual' });
  const back = new URL(page.headers.get('location'));
  await ask('GET', back.pathname + back.search);
  return (await ask('GET', '/v1/connections')).items.find((it) => it.display_name === 'c').id;
}

/** Asks for the tools, freezes them, and has a workflow call the first one. */
async function use(server_id, path, connection_id) {
  const { tools } = await ask('POST', `${path}/discover`, { connection_id });
  if (!tools.length) return;
  await ask('POST', `${path}/versions`, {});
  const name = `c${Date.now()}`;
  const instance = await ask('POST', '/v1/mcp/instances', { name, server_id, version: 1 });
  const profiles = `/v1/mcp/instances/${instance.id}/config-profiles`;
  await ask('POST', profiles, { name, bindings: { access_token: 'connection/c/access_token' } });
  await ask('POST', `${profiles}/set-active`, { name });
  const tool = { instance_id: name, tools: [tools[0].name] };
  const script = "return host.call('mcp.call', input)";
  const graph = { name, steps: [{ id: 'call', type: 'lua_script', script, capabilities: { tools: [tool] } }] };
  const workflow = await ask('POST', '/v1/workflows', { name, graph });
  await ask('POST', `/v1/workflows/${workflow.id}/versions`, {});
  const params = { instance_id: name, tool: tools[0].name, arguments: {} };
  const call = () => ask('POST', `/v1/workflows/${workflow.id}/command?wait=60s`, { command: 'start', params });
  try {
    const run = await call();
    if (run.error?.code !== 'MCP_AUTHORIZATION_REQUIRED') return;
    await authorize(path, { ...wanted, ...run.error.details.value.details });
    await call();
  } finally {
    await ask('DELETE', `/v1/mcp/instances/${instance.id}`);
  }
}

const { id } = await ask('POST', '/v1/mcp/servers', { name: 'c', canonical_url: server });
const path = `/v1/mcp/servers/${id}`;
const client = context.client_id ? { client_id: context.client_id } : {};
if (context.client_secret) {
  // A secret is for one authorization server: here, for the one that the server says it has.
  const { origin, pathname } = new URL(server);
  const description = await fetch(`${origin}/.well-known/oauth-protected-resource${pathname}`);
  const [issuer] = (await description.json()).authorization_servers;
  Object.assign(client, { client_secret: context.client_secret, issuer });
}
const wanted = process.env.GRANT_TYPE ? { ...client, grant_type: process.env.GRANT_TYPE } : client;
try {
  const connection_id = await authorize(path, wanted);
  try {
    await use(id, path, connection_id);
  } catch ({ problem }) {
    // As a person would: once more, with the scopes that are named.
    if (problem?.code !== 'MCP_AUTHORIZATION_REQUIRED') throw problem;
    await authorize(path, { ...wanted, ...problem.details });
    await use(id, path, connection_id);
  }
} catch (error) {
  console.log(String(error));
} finally {
  await ask('DELETE', path);
  const { items } = await ask('GET', '/v1/connections');
  for (const { id } of items) await ask('DELETE', `/v1/connections/${id}`);
}
