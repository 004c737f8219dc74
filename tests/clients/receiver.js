// A receiver that verifies with the npm package standardwebhooks. The first line of its input is the secret.
// It prints its URL, then a line for each request: `verified ID`, `refused REASON`, or `not taken TYPE`, which is an
// answer of 415 to a content type other than the one that is its argument.

const { createServer } = require("node:http");
const { createInterface } = require("node:readline");
const { Webhook } = require("standardwebhooks");

const only = process.argv[2];
let webhook;

function answerOf(request, body) {
  if (!webhook) return 503;
  const type = request.headers["content-type"];
  if (only && type !== only) {
    console.log(`not taken ${type}`);
    return 415;
  }
  try {
    const event = webhook.verify(body, request.headers);
    console.log(`verified ${event.id}`);
    return 204;
  } catch (error) {
    console.log(`refused ${error.message}`);
    return 401;
  }
}

createInterface({ input: process.stdin }).once("line", (secret) => {
  webhook = new Webhook(secret);
});

const server = createServer(async (request, response) => {
  let body = "";
  request.setEncoding("utf8");
  for await (const piece of request) body += piece;
  response.writeHead(request.method === "POST" ? answerOf(request, body) : 405).end();
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
