"use strict";
/*
 * A Cosmos DB for tests: @vercel/cosmosdb-server over plain HTTP with keep-alive, made more like Azure.
 *
 *   node launcher.js [--mode atomic|prefix|lagging] [--lag-ms 60] [--latency-ms 0] [--port 0]
 *
 * Prints its port on the first line, and ends when its standard input does. Beside Cosmos DB's own paths it has
 * POST and DELETE /_faults, GET /_counts/{database}, which counts from zero again, POST /_clock {"seconds": n}, which
 * moves the clock forward, DELETE /_clock, which sets it right again, and GET /_memory.
 */

const { parseArgs } = require("util");
const v8 = require("v8");
const vm = require("vm");
const { Clock } = require("./clock");
const { documentsWith } = require("./documents");
const operations = require("./operations");
const { Counts, Faults, operationOf } = require("./traffic");

const LIB = "@vercel/cosmosdb-server/lib";
const MODES = ["atomic", "prefix", "lagging"];
const REQUEST_BYTES = 2 * 1024 * 1024;
const NEVER_MS = 86_400_000;

const optionsOf = (args) => {
  const number = (value) => ({ type: "string", default: String(value) });
  const { values } = parseArgs({
    args,
    options: {
      mode: { type: "string", default: "atomic" },
      "lag-ms": number(60),
      "latency-ms": number(0),
      indexes: { type: "boolean", default: true },
      port: number(0),
    },
  });
  if (!MODES.includes(values.mode)) throw new Error(`--mode is one of ${MODES.join(", ")}`);
  const lagMs = values.mode === "lagging" ? Number(values["lag-ms"]) : 0;
  const { mode, indexes } = values;
  return { mode, indexes, lagMs, latencyMs: Number(values["latency-ms"]), port: Number(values.port) };
};

/** The account as ours is on Azure: Strong; and reached as this server is. */
const readAccount = (account, req) => {
  const here = [{ name: "Local", databaseAccountEndpoint: `http://${req.headers.host}/` }];
  return {
    ...account.read(),
    readableLocations: here,
    writableLocations: here,
    userConsistencyPolicy: { defaultConsistencyLevel: "Strong" },
  };
};

/** As the query engine's own function of this name, in time that rises with the size of the value. */
const stripUndefined = (value) => {
  if (Array.isArray(value)) return value.filter((each) => each !== undefined).map(stripUndefined);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries.map(([name, each]) => [name, stripUndefined(each)]));
};

/** The package's server with our documents and handlers in place of its own. */
const serverWith = (options) => {
  require("@zeit/cosmosdb-query/lib/helpers").stripUndefined = stripUndefined;
  require(`${LIB}/account/documents`).default = documentsWith(options);
  const handlers = { ...operations(options), "read-meta": readAccount };
  for (const [name, handler] of Object.entries(handlers)) require(`${LIB}/handler/${name}`).default = handler;
  return require(LIB).createHttpServer({ keepAlive: true });
};

const pause = (ms) => (ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : undefined);

const answer = (res, status, body, headers = {}) => {
  res.writeHead(status, { "content-type": "application/json", ...headers });
  res.end(JSON.stringify(body));
};

const strike = (fault, req, res) => {
  if (fault.cut) return req.socket.destroy();
  const headers = {};
  if (fault.retryAfterMs !== undefined) headers["x-ms-retry-after-ms"] = fault.retryAfterMs;
  if (fault.substatus !== undefined) headers["x-ms-substatus"] = fault.substatus;
  return answer(res, fault.status, { code: String(fault.status), message: "as the test asked" }, headers);
};

/** Let `act` stand between an answer and the wire. */
const beforeAnswer = (res, act) => {
  const { end } = res;
  res.end = (...args) => {
    res.end = end;
    act(() => res.end(...args));
    return res;
  };
};

const bodyOf = async (req) => {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
};

const memory = () => {
  v8.setFlagsFromString("--expose-gc");
  vm.runInNewContext("gc")();
  return process.memoryUsage();
};

const administer = async (req, res, { clock, counts, faults }) => {
  if (req.url.startsWith("/_counts/")) return answer(res, 200, counts.take(decodeURIComponent(req.url.slice(9))));
  if (req.url === "/_memory") return answer(res, 200, memory());
  const isReset = req.method === "DELETE";
  if (req.url === "/_clock") isReset ? clock.reset() : clock.advance((await bodyOf(req)).seconds);
  else isReset ? faults.clear() : faults.add(await bodyOf(req));
  return answer(res, 200, {});
};

const serveCosmos = async (req, res, handle, { clock, counts, faults, latencyMs }) => {
  const request = operationOf(req);
  res.setHeader("date", clock.date().toUTCString());
  counts.add(request);
  const fault = faults.take(request);
  await pause(latencyMs / 2 + (fault?.delayMs ?? 0));
  const strikes = fault && (fault.cut || fault.status);
  if (strikes && !fault.after) return strike(fault, req, res);
  if (request.operation !== "meta" && Number(req.headers["content-length"]) > REQUEST_BYTES) {
    return answer(res, 413, { code: "RequestEntityTooLarge", message: "Request size is too large" });
  }
  beforeAnswer(res, async (send) => {
    await pause(latencyMs / 2);
    if (strikes) strike(fault, req, res);
    else send();
  });
  return handle(req, res);
};

const main = () => {
  const clock = new Clock();
  const options = { ...optionsOf(process.argv.slice(2)), clock };
  const server = serverWith(options);
  const [handle] = server.listeners("request");
  const traffic = { clock, counts: new Counts(), faults: new Faults(), latencyMs: options.latencyMs };
  server.removeAllListeners("request");
  server.on("request", (req, res) => {
    const served = req.url.startsWith("/_") ? administer(req, res, traffic) : serveCosmos(req, res, handle, traffic);
    served.catch((error) => answer(res, 500, { message: error.message }));
  });
  // A connection that the server closes while a client writes on it would look like a lost answer.
  server.keepAliveTimeout = NEVER_MS;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  server.listen(options.port, "127.0.0.1", () => console.log(server.address().port));
  process.stdin.on("end", () => process.exit()).resume();
};

main();
