// A sample application for Hydragate. Usage: WEBHOOK_SECRET=whsec_... node app.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = Buffer.from((process.env.WEBHOOK_SECRET ?? "").replace(/^whsec_/, ""), "base64");
const tolerance = 5 * 60; // seconds
const maxBody = 1 << 20; // bytes
const maxAnswers = 10_000; // older ones are forgotten

let requests = 0;
const answers = new Map(); // promises by event ID, oldest first

// verify reports whether body was signed with secret within the last five minutes.
function verify(headers, body) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) {
    return false;
  }
  const want = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest();
  // One signature for each secret that is valid now, separated by spaces.
  return (headers["webhook-signature"] ?? "").split(" ").some((entry) => {
    const [version, signature = ""] = entry.split(",");
    const got = Buffer.from(signature, "base64");
    return version === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}

// answer does the work for an event and returns the body of the response.
async function answer(event) {
  if (event.type !== "message.received") return { replies: [] };
  let text = "I can only tell that to the owner of the account.";
  if (event.data.sender.role === "owner") text = "The balance of your account is 42.00 EUR.";
  return { replies: [{ text: `Request ${++requests}: ${text}` }] };
}

// answerOnce returns the answer to an event. A redelivered event gets the same answer, without new work.
function answerOnce(id, body) {
  let saved = answers.get(id);
  if (!saved) {
    if (answers.size >= maxAnswers) answers.delete(answers.keys().next().value);
    saved = (async () => JSON.stringify(await answer(JSON.parse(body))))();
    answers.set(id, saved);
    saved.catch(() => answers.delete(id)); // the gateway retries
  }
  return saved;
}

async function handle(req, res) {
  if (!(Number(req.headers["content-length"]) <= maxBody)) {
    res.writeHead(413, { Connection: "close" }).end();
    return;
  }
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!verify(req.headers, body)) {
    res.writeHead(401).end();
    return;
  }
  const payload = await answerOnce(req.headers["webhook-id"], body);
  res.writeHead(200, { "Content-Type": "application/json" }).end(payload);
}

if (secret.length === 0) {
  console.error("WEBHOOK_SECRET must be the webhook_secret of the instance");
  process.exit(1);
}
const server = createServer((req, res) =>
  handle(req, res).catch((error) => {
    console.error("answer event failed:", error);
    if (!res.headersSent) res.writeHead(500).end();
  }),
);
server.listen(Number(process.env.PORT || 9000), "127.0.0.1", () => {
  console.log(JSON.stringify({ listening: `http://127.0.0.1:${server.address().port}` }));
});
