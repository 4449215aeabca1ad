// The MCP project's own server with tools of every kind, over Streamable HTTP, on a free port of this machine alone. Takes the
// folder of the packages, prints its address as a line of JSON.
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (_port, ...rest) {
  this.once('listening', () => {
    process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${this.address().port}/mcp` })}\n`);
  });
  return listen.call(this, { port: 0, host: '127.0.0.1' }, ...rest);
};
// It tells of every request.
console.log = console.error = console.warn = () => {};
const folder = path.join(process.argv[2], '@modelcontextprotocol/server-everything/dist/transports');
await import(pathToFileURL(path.join(folder, 'streamableHttp.js')).href);
// It ends with whoever started it.
process.stdin.resume().on('end', () => process.exit());
