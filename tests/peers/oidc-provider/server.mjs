// An OpenID provider on https://127.0.0.1:PORT. It obeys lines on standard input and answers each with a line:
//   rotate     signs with a new key from now on, and publishes the ones before, too
//   forget     publishes the current key only
//   seconds N  how long new tokens are good
// and says "ready" once it listens. Usage: node server.mjs PORT CERTIFICATE KEY
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [port, certificate, key] = process.argv.slice(2);
const issuer = `https://127.0.0.1:${port}`;
let seconds = 600;
let keys = [];
let handle;

function sign() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  keys = [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' }, ...keys];
}

function serve() {
  const provider = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ['only for tests'] },
    clients: [
      {
        client_id: 'jane',
        client_secret: 'secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'client_secret_post',
        id_token_signed_response_alg: 'ES256',
      },
    ],
    scopes: ['flunders'],
    extraTokenClaims: () => ({ groups: ['readers'] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:aggmw',
        getResourceServerInfo: (context, resource) => ({
          scope: 'flunders',
          audience: resource === 'urn:other' ? 'other' : 'aggmw',
          accessTokenFormat: 'jwt',
          accessTokenTTL: seconds,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  handle = provider.callback();
}

const commands = {
  rotate: () => { sign(); serve(); },
  forget: () => { keys = keys.slice(0, 1); serve(); },
  seconds: (number) => { seconds = Number(number); },
};

sign();
serve();
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => handle(request, response));
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, ...rest] = line.split(' ');
  commands[command](...rest);
  console.log('done');
}).on('close', () => process.exit(0));
