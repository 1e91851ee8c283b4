#!/usr/bin/env python3
"""A sample application for Hydragate. Usage: WEBHOOK_SECRET=whsec_... python3 app.py"""
import base64
import hashlib
import hmac
import itertools
import json
import logging
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ.get("WEBHOOK_SECRET", "").removeprefix("whsec_"), validate=True)
TOLERANCE = 5 * 60  # seconds
MAX_BODY = 1 << 20  # bytes
MAX_ANSWERS = 10_000  # older ones are forgotten

requests = itertools.count(1)
answers = {}  # by event ID, oldest first
answers_lock = threading.Lock()


def verify(headers, body: bytes) -> bool:
    """Reports whether body was signed with SECRET within the last five minutes."""
    event_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = event_id.encode() + b"." + timestamp.encode() + b"." + body
    want = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest())
    # One signature for each secret that is valid now, separated by spaces.
    for entry in headers.get("webhook-signature", "").split(" "):
        version, _, got = entry.partition(",")
        if version == "v1" and hmac.compare_digest(got.encode(), want):
            return True
    return False


def answer(event) -> dict:
    """Does the work for an event and returns the body of the response."""
    if event["type"] != "message.received":
        return {"replies": []}
    if event["data"]["sender"]["role"] == "owner":
        text = "The balance of your account is 42.00 EUR."
    else:
        text = "I can only tell that to the owner of the account."
    return {"replies": [{"text": f"Request {next(requests)}: {text}"}]}


def answer_once(event_id: str, body: bytes) -> bytes:
    """Returns the answer to an event. A redelivered event gets the same answer, without new work."""
    with answers_lock:
        if event_id not in answers:
            if len(answers) >= MAX_ANSWERS:
                del answers[next(iter(answers))]
            answers[event_id] = {"lock": threading.Lock(), "body": None}
        saved = answers[event_id]
    with saved["lock"]:  # a redelivery waits until the first delivery is answered
        if saved["body"] is None:
            saved["body"] = json.dumps(answer(json.loads(body))).encode()
        return saved["body"]


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections that wait to be accepted; the default of 5 delays bursts


class Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds for a client to send its request

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        if not verify(self.headers, body):
            self.send_error(401)
            return
        try:
            payload = answer_once(self.headers["webhook-id"], body)
        except Exception:  # the gateway retries
            logging.exception("answer event failed")
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


if __name__ == "__main__":
    if not SECRET:
        raise SystemExit("WEBHOOK_SECRET must be the webhook_secret of the instance")
    server = Server(("127.0.0.1", int(os.environ.get("PORT") or 9000)), Handler)
    print(json.dumps({"listening": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()
