// A server of MCP that wants tokens of OAuth, and the authorization server that gives them: `oidc-provider`, which registers
// clients and rotates the tokens that renew. Takes the folder of the packages, prints the addresses as a line of JSON.
import http from 'node:http';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const modules = process.argv[2];
const load = (name, file) => import(pathToFileURL(path.join(modules, name, file)).href);
const { Provider } = await load('oidc-provider', 'lib/index.js');
const jose = await load('jose', 'dist/webapi/index.js');

const CLIENT = { client_id: 'registered', client_secret: 'a-secret-of-the-registered-client' };

async function listen(handlerOf) {
  const server = http.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const origin = `http://127.0.0.1:${server.address().port}`;
  server.on('request', handlerOf(origin));
  return origin;
}

const issuer = await listen((origin) => {
  const provider = new Provider(origin, {
    clients: [{
      ...CLIENT,
      application_type: 'native',
      grant_types: ['authorization_code', 'client_credentials', 'refresh_token'],
      redirect_uris: ['http://127.0.0.1/v1/mcp/oauth/callback'],
    }],
    cookies: { keys: ['a-key-for-tests'] },
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access', 'echo', 'write'],
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    features: {
      clientCredentials: { enabled: true },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: 'echo write', audience: resource, accessTokenTTL: 3600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  return provider.callback();
});

const keys = jose.createRemoteJWKSet(new URL(`${issuer}/jwks`));
// Tokens that were taken, and those that are not taken any more.
const [seen, over] = [new Set(), new Set()];
const tool = { name: 'echo', description: 'Gives back what it gets.', inputSchema: { type: 'object' } };

const origin = await listen((origin) => async (request, response) => {
  const resource = `${origin}/mcp`;
  const send = (status, body, headers = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(body));
  };
  if (request.url === '/.well-known/oauth-protected-resource/mcp') {
    return send(200, { resource, authorization_servers: [issuer], scopes_supported: ['echo'] });
  }
  if (request.url === '/forget') {
    for (const token of seen) over.add(token);
    return send(200, { seen: seen.size });
  }
  const metadata = `resource_metadata="${origin}/.well-known/oauth-protected-resource/mcp"`;
  const token = (request.headers.authorization ?? '').replace('Bearer ', '');
  let claims;
  try {
    if (over.has(token)) throw new Error('over');
    ({ payload: claims } = await jose.jwtVerify(token, keys, { issuer, audience: resource }));
  } catch {
    return send(401, {}, { 'www-authenticate': `Bearer ${metadata}, scope="echo"` });
  }
  seen.add(token);
  if (request.method !== 'POST') return send(405, {});
  let text = '';
  for await (const chunk of request) text += chunk;
  const { id, method, params } = JSON.parse(text);
  const result = (result) => send(200, { jsonrpc: '2.0', id, result });
  if (id === undefined) return send(202, {});
  switch (method) {
    case 'initialize':
      return result({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } });
    case 'tools/list':
      return result({ tools: [tool] });
    case 'tools/call': {
      const needed = params.arguments.needs ?? 'echo';
      if (!claims.scope.split(' ').includes(needed)) {
        return send(403, {}, { 'www-authenticate': `Bearer error="insufficient_scope", scope="echo ${needed}", ${metadata}` });
      }
      return result({ content: [{ type: 'text', text: `${params.arguments.text} as ${claims.sub} by ${token}` }] });
    }
    default:
      return send(200, { jsonrpc: '2.0', id, error: { code: -32601, message: 'Method not found' } });
  }
});

console.log(JSON.stringify({ issuer, origin, url: `${origin}/mcp`, ...CLIENT }));
// The test ends this process by closing its input.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
