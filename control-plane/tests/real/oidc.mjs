// Two issuers of OpenID Connect for tests, in one process: `oidc-provider`, which is honest, and one whose tokens are wrong
// in the way that the code names. Takes the folder of the packages, prints both addresses as a line of JSON.
import http from 'node:http';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const modules = process.argv[2];
const load = (name, file) => import(pathToFileURL(path.join(modules, name, file)).href);
const { Provider } = await load('oidc-provider', 'lib/index.js');
const jose = await load('jose', 'dist/webapi/index.js');

const CLIENT = { client_id: 'agentruntime', client_secret: 'a-secret-of-the-client' };

async function listen(handlerOf) {
  const server = http.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on('request', handlerOf(issuer));
  return issuer;
}

// Whoever signs in writes `SUBJECT:ADDRESS`, with `?` at the end where the address is not verified.
const honest = await listen((issuer) => {
  const provider = new Provider(issuer, {
    clients: [{
      ...CLIENT,
      // Native, so that the test's port may be any.
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/v1/auth/oauth/google/callback'],
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: ['a-key-for-tests'] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: id.split(':')[1].replace('?', ''),
        email_verified: !id.endsWith('?'),
        name: `Name of ${id.split(':')[0]}`,
      }),
    }),
  });
  return provider.callback();
});

const lying = await listen((issuer) => {
  const keys = jose.generateKeyPair('RS256', { extractable: true });
  const otherKeys = jose.generateKeyPair('RS256');
  const send = (response, body) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(body));
  };
  return async (request, response) => {
    if (request.url === '/.well-known/openid-configuration') {
      return send(response, {
        issuer,
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
      });
    }
    const { publicKey, privateKey } = await keys;
    if (request.url === '/jwks') {
      return send(response, { keys: [{ ...(await jose.exportJWK(publicKey)), kid: '1', alg: 'RS256', use: 'sig' }] });
    }
    let form = '';
    for await (const chunk of request) form += chunk;
    const [lie, nonce] = new URLSearchParams(form).get('code').split('.');
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: lie === 'issuer' ? 'https://accounts.example' : issuer,
      aud: lie === 'audience' ? 'somebody-else' : CLIENT.client_id,
      exp: lie === 'expired' ? now - 3600 : now + 3600,
      iat: now - 7200,
      nonce: lie === 'nonce' ? 'another' : nonce,
      sub: 'mallory',
      email: 'mallory@example.com',
      email_verified: true,
    };
    const key = lie === 'signature' ? (await otherKeys).privateKey : privateKey;
    const signed = await new jose.SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: '1' }).sign(key);
    const unsigned = new jose.UnsecuredJWT(claims).encode();
    const id_token = lie === 'unsigned' ? unsigned : signed;
    return send(response, { access_token: 'none', token_type: 'Bearer', ...(lie === 'missing' ? {} : { id_token }) });
  };
});

console.log(JSON.stringify({ honest, lying, ...CLIENT }));
// The test ends this process by closing its input.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
