"""A server of OpenBao for tests, which keeps all in memory. Takes the program; the first line says where it is and what its
token is. Ends when its input is closed."""

import ctypes
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PR_SET_PDEATHSIG = 1


def end_with_us():
    """Whoever ends this script by force ends the server with it, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
token = "root-token-of-tests"
options = [f"-dev-root-token-id={token}", f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token"]
folder = tempfile.TemporaryDirectory()
home = folder.name
silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
server = subprocess.Popen([sys.argv[1], "server", "-dev", *options], cwd=home, env={"HOME": home}, preexec_fn=end_with_us, **silent)
while server.poll() is None:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/sys/health")
        break
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.05)
print(json.dumps({"address": f"http://127.0.0.1:{port}", "token": token}), flush=True)
sys.stdin.read()
server.terminate()
server.wait()
folder.cleanup()
