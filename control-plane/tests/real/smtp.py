"""An SMTP server for tests: takes every mail and prints it as a line of JSON. Takes the port, 0 for any; the first line
says which. Ends when its input is closed."""

import json
import sys

from aiosmtpd.controller import Controller


class Sink:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode("utf-8", "replace")
        print(json.dumps({"to": envelope.rcpt_tos, "from": envelope.mail_from, "text": text}), flush=True)
        return "250 OK"


class AnyPort(Controller):
    """The check that the server answers needs the port that the system chose."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


controller = AnyPort(Sink(), hostname="127.0.0.1", port=int(sys.argv[1]))
controller.start()
print(json.dumps({"port": controller.port}), flush=True)
sys.stdin.read()
controller.stop()
