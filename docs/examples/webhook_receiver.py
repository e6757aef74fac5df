"""Hears that videos are done: checks each webhook's signature, forgets repetitions, and says what it heard.

    export WEBHOOK_SECRET=whsec_…   # from the answer to PUT /v1/webhook
    python docs/examples/webhook_receiver.py 9000

Needs `pip install standardwebhooks`. The `openai` client checks them, too:
`OpenAI().webhooks.unwrap(body, headers, secret=…)`.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MAX_BYTES = 64 * 1024
heard: set[str] = set()  # in a program of more than one process: a table with a unique key


class Receiver(BaseHTTPRequestHandler):
    """Answers within a moment: what takes longer belongs into a queue, not into the answer."""

    def do_POST(self) -> None:
        """204: heard. 400: not from whom it says, or too old; it is sent again, and refused again."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BYTES))
        try:
            headers = {name.lower(): value for name, value in self.headers.items()}
            event = Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, headers)
        except WebhookVerificationError:
            self.send_error(400)
            return
        if event["id"] not in heard:  # the same event may come more than once
            heard.add(event["id"])
            print(f"{event['type']} {event['data']['id']}", flush=True)
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
